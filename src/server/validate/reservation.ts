import { createHash, randomBytes } from 'node:crypto';

const RESERVATION = /^([A-Za-z0-9_-]{2,342})\.([A-Za-z0-9_-]{24})$/;

/**
 * Creates the name of a reservation. It contains the client id, so that any node can settle it. The same request id
 * gives the same name, so a repeated request gets the first decision and its reservation again.
 */
export function newReservation(clientId: string, requestId: string | undefined): string {
  const unique =
    requestId === undefined
      ? randomBytes(18)
      : createHash('sha256')
          .update(JSON.stringify([clientId, requestId]))
          .digest()
          .subarray(0, 18);
  return `${Buffer.from(clientId).toString('base64url')}.${unique.toString('base64url')}`;
}

/** Reads the client id from a reservation; `undefined` for any other text. */
export function clientOf(reservation: string): string | undefined {
  const name = RESERVATION.exec(reservation)?.[1];
  if (name === undefined) return undefined;
  const bytes = Buffer.from(name, 'base64url');
  const clientId = bytes.toString('utf8');
  // A text that does not encode back to itself could name another client.
  return bytes.length <= 256 && Buffer.from(clientId).equals(bytes) && bytes.toString('base64url') === name
    ? clientId
    : undefined;
}
