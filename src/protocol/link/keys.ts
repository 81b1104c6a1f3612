import { scryptSync } from 'node:crypto';

/** A secret that nodes share, and the id by which a handshake names it. */
export interface PeerKey {
  /** 8 hex digits. */
  readonly id: string;
  readonly secret: string;
}

/** The ids that a node offers, its first key first. */
export const KEY_IDS = /^[\da-f]{8}(?:,[\da-f]{8}){0,3}$/;

/**
 * Cost of an id: some milliseconds and 4 MiB. A node that is dialled, and whoever listens, sees ids. A guess of the
 * secret takes a thousand times longer to test by them than by the proof that they see as well.
 */
const COST = 4_096;

/** @param secrets as `TOKENRING_PEER_SECRET` has them, and valid; the first one is used where the peer knows it */
export function peerKeysOf(secrets: string | undefined, cluster: string): readonly PeerKey[] {
  const list = secrets?.split(',') ?? [];
  return list.map((secret) => {
    const id = scryptSync(secret, `tokenring peer key of ${cluster}`, 4, { N: COST }).toString('hex');
    return { id, secret };
  });
}

export function idsOf(keys: readonly PeerKey[]): string {
  return keys.map(({ id }) => id).join(',');
}
