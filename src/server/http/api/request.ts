import type { Request, Response } from 'express';
import type { Actor } from '../../edge/access/audit.js';
import { requireClientId } from '../../validate/request.js';

/** The client that an address names. @throws TokenringError `invalid_request` if it is no client id */
export function clientIdOf(req: Request): string {
  const clientId = req.params['clientId'] as string;
  requireClientId(clientId);
  return clientId;
}

/** The author of a request, for the audit log, once its token is admitted. */
export function actorFrom(res: Response): Actor {
  return res.locals['who'] as Actor;
}
