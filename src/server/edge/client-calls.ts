import type { ClientDescription } from '../../limits/request/description.js';
import type { Settlement } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import type { ClientAdmin } from '../../node/client-admin.js';
import type { ClusterNode } from '../../node/node.js';
import { readSettle, requireClientId } from '../validate/request.js';

/** The parts of a node that know single clients. */
export interface ClientNode extends Pick<ClusterNode, 'settler'> {
  readonly admin: Pick<ClientAdmin, 'describe' | 'forget'>;
}

/** Settles costs, and describes and resets clients. All protocols and the library call it, and only format the answer. */
export class ClientCalls {
  constructor(private readonly node: ClientNode) {}

  /**
   * @param request the body of `POST /v1/settle`
   * @throws TokenringError `invalid_request`, `unknown_reservation`, `unavailable`
   */
  async settle(request: unknown): Promise<{ reservation: string; clientId: string; settlement: Settlement }> {
    const { clientId, reservation, cost } = readSettle(request);
    const settled = await this.node.settler.settle(clientId, reservation, cost);
    switch (settled.kind) {
      case 'settled':
        return { reservation, clientId, settlement: settled.settlement };
      case 'unknown':
        throw new TokenringError('unknown_reservation', { field: 'reservation' });
      case 'unavailable':
        throw unavailable('the owner does not answer; send it again: it counts once');
    }
  }

  /** @throws TokenringError `invalid_request`, `unavailable` */
  async describe(clientId: string): Promise<ClientDescription> {
    requireClientId(clientId);
    const client = await this.node.admin.describe(clientId);
    if (client === undefined) throw unavailable('the owner of the client does not answer');
    return client;
  }

  /** @throws TokenringError `invalid_request`, or `unavailable` if the client is forgotten on some nodes only */
  async reset(clientId: string): Promise<void> {
    requireClientId(clientId);
    if (!(await this.node.admin.forget(clientId))) throw unavailable('not every node has confirmed: send it again');
  }
}

function unavailable(detail: string): TokenringError {
  return new TokenringError('unavailable', { detail });
}
