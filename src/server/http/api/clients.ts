import type { RequestHandler, Response } from 'express';
import type { ClusterNode } from '../../../node/node.js';
import { TokenringError } from '../../../lib/error.js';
import type { Actor, Audit } from '../../edge/access/audit.js';
import { clientIdOf } from './client-param.js';

interface ClientHandlersDeps {
  readonly cluster: Pick<ClusterNode, 'describe' | 'forget'>;
  readonly audit: Audit;
  readonly actorFrom: (res: Response) => Actor;
}

/** Handles `/v1/clients/{id}`: the buckets of a client. */
export function createClientHandlers({
  cluster,
  audit,
  actorFrom,
}: ClientHandlersDeps): Readonly<Record<'describe' | 'forget', RequestHandler>> {
  return {
    async describe(req, res) {
      const client = await cluster.describe(clientIdOf(req));
      if (client === undefined)
        throw new TokenringError('unavailable', { detail: 'the owner of the client does not answer' });
      res.json(client);
    },
    async forget(req, res) {
      const clientId = clientIdOf(req);
      const before = await cluster.describe(clientId);
      const everywhere = await cluster.forget(clientId);
      const what = everywhere ? 'client forgotten' : 'client forgotten on some nodes';
      audit({ who: actorFrom(res), what, target: clientId, before: before?.buckets ?? 'unknown' });
      if (!everywhere)
        throw new TokenringError('unavailable', { detail: 'not every node has confirmed: send it again' });
      res.status(204).end();
    },
  };
}
