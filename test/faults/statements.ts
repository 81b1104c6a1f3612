import type { ClientDescription } from '../../src/limits/request/description.js';
import type { ClusterDescription } from '../../src/server/http/api/cluster-view.js';
import type { Statement } from '../sim/history.js';
import { asAt } from './checked.js';
import { machineMs } from './history.js';
import type { Load } from './load.js';
import type { Ownership } from './stage.js';

/** Every so many clients are asked about: it takes a second as it is. */
const EVERY = 4;

export interface Statements {
  readonly statements: readonly Statement[];
  readonly clientIds: readonly string[];
  readonly atMs: number;
}

/** Asks each node that is up who is a member, who owns whom, and what the clients have consumed, whoever answers that. */
export async function takeStatements(load: Load, nodes: number, clients: readonly string[]): Promise<Statements> {
  const clientIds = clients.filter((_, i) => i % EVERY === 0);
  const heard = await Promise.all(Array.from({ length: nodes }, (_, node) => hear(load, node, clientIds)));
  const atMs = machineMs();
  const statements = heard.flatMap((one) => {
    if (one === undefined) return [];
    const said = one.clients.map(({ client, heardMs }) => asAt(client, heardMs, atMs));
    return [{ ...one, clients: said }];
  });
  return { statements, clientIds, atMs };
}

async function hear(load: Load, node: number, clientIds: readonly string[]) {
  const { status, body } = await load.get(node, '/v1/cluster');
  if (status !== 200) return undefined;
  const { self, members } = JSON.parse(body) as ClusterDescription;
  const get = (pathOf: (id: string) => string) => load.call('get', { node, paths: clientIds.map(pathOf) });
  const owners = await get((id) => `/v1/cluster/owner?clientId=${id}`);
  const described = await get((id) => `/v1/clients/${id}`);
  return {
    node: self,
    members: members.filter(({ state }) => state === 'active').map(({ id }) => id),
    owners: owners.map((got) => JSON.parse(got.body) as Ownership),
    clients: described.map((got) => ({ client: JSON.parse(got.body) as ClientDescription, heardMs: got.atMs })),
  };
}
