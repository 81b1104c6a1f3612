import type { Request } from 'express';
import { requireClientId } from '../../validate/request.js';

/** The client that an address names. @throws TokenringError `invalid_request` if it is no client id */
export function clientIdOf(req: Request): string {
  const clientId = req.params['clientId'] as string;
  requireClientId(clientId);
  return clientId;
}
