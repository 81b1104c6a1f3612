import { createHash, timingSafeEqual } from 'node:crypto';
import { Problem } from './problem.js';

/**
 * Lets the bearer of the admin token pass. The comparison takes the same time wherever two tokens differ.
 * @throws Problem `forbidden` when the node has no token, `unauthorized` when the request's is missing or wrong
 */
export function requireAdmin(authorization: string | undefined, adminToken: string | undefined): void {
  if (adminToken === undefined) throw new Problem('forbidden', { expected: 'TOKENRING_ADMIN_TOKEN to be set' });
  const token = /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1];
  if (token === undefined || !timingSafeEqual(digest(token), digest(adminToken))) {
    throw new Problem('unauthorized', { field: 'Authorization', expected: 'Bearer and the admin token' });
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
