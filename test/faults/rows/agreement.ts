import { setTimeout as sleep } from 'node:timers/promises';
import type { ClientDescription } from '../../../src/limits/request/description.js';
import { HOUR_MS } from '../clients.js';
import { machineMs, type Asked } from '../history.js';
import type { Ownership, Stage } from '../stage.js';
import { figure, type Figure } from '../verdict.js';

/** Until what is under way has been answered and copied. */
const STILL_MS = 300;
/** A token may be refilled between two looks. */
const REFILL = 1;

interface Facts {
  readonly asked: readonly Asked[];
  readonly owners: readonly Ownership[];
  readonly cutAtMs: number;
  /** How old a copy may have been when the network was cut. */
  readonly ageMs: number;
}

interface States {
  judge(facts: Facts): readonly Figure[];
}

/** Stops the load, and asks every node for the clients with long windows, whose consumption does not fade meanwhile. */
export async function agreement({ load, clients }: Stage, nodes: readonly number[]): Promise<States> {
  const lasting = clients.map((_, i) => i).filter((i) => lastingRule(i) !== undefined);
  const paths = lasting.map((i) => `/v1/clients/${clients[i]!.id}`);
  await load.call('pace', { perSecond: 0 });
  await sleep(STILL_MS);
  const asAtMs = machineMs();
  const views = await Promise.all(
    nodes.map(async (node) => {
      const got = await load.call('get', { node, paths });
      return got.map(({ status, body }) => (status === 200 ? (JSON.parse(body) as ClientDescription) : undefined));
    }),
  );

  function lastingRule(client: number): number | undefined {
    return clients[client]!.rules.find(({ windowMs }) => windowMs === HOUR_MS)?.limit;
  }

  function consumed(view: ClientDescription | undefined): number | undefined {
    if (view === undefined) return undefined;
    const bucket = view.buckets.find(({ windowMs }) => windowMs === HOUR_MS);
    return bucket === undefined ? 0 : bucket.limit - bucket.remaining;
  }

  return {
    judge({ asked, owners, cutAtMs, ageMs }) {
      let differ = 0;
      const freed: string[] = [];
      lasting.forEach((client, i) => {
        const seen = views.map((view) => consumed(view[i]));
        const sameOwner = new Set(views.map((view) => view[i]?.owner)).size === 1;
        const known = seen.filter((one) => one !== undefined);
        if (known.length < nodes.length || !sameOwner || Math.max(...known) - Math.min(...known) > REFILL) differ += 1;
        const atLeast = leastConsumed(
          asked.filter((one) => one.client === client && one.allowed === true && one.source !== 'fallback'),
          owners[client]!,
        );
        const refill = Math.ceil((lastingRule(client)! * (asked.at(-1)!.receivedMs - asked[0]!.sentMs)) / HOUR_MS);
        if (Math.min(...known) < atLeast - refill)
          freed.push(`${clients[client]!.id} ${Math.min(...known)} < ${atLeast}`);
      });

      /** What some owner must know by now: its own decisions since the cut, and those before that were its own or copied to it. */
      function leastConsumed(admitted: readonly Asked[], { owner, successors }: Ownership): number {
        const before = admitted.filter(({ receivedMs }) => receivedMs <= cutAtMs);
        const copied = before.filter(({ receivedMs }) => receivedMs <= cutAtMs - ageMs);
        const since = admitted.filter(({ sentMs, receivedMs }) => sentMs > cutAtMs && receivedMs < asAtMs);
        return Math.max(
          ...[...new Set([owner, ...since.map((one) => one.owner!)])].map((id) => {
            const known = id === owner ? before.length : id === successors[0] ? copied.length : 0;
            return known + since.filter((one) => one.owner === id).length;
          }),
        );
      }

      return [
        figure('clients of whom the nodes do not tell the same', differ, `0 of ${lasting.length}`, differ === 0),
        figure(
          'clients of whom less is known than was admitted',
          `${freed.length} ${freed.slice(0, 5).join(', ')}`,
          '0',
          freed.length === 0,
        ),
      ];
    },
  };
}
