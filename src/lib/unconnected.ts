const UNCONNECTED = new Set<unknown>([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'UND_ERR_CONNECT_TIMEOUT',
]);

/**
 * Tells whether the code of a system or undici error means that there was no connection: the other side received
 * nothing.
 */
export function isUnconnected(code: unknown): code is string {
  return UNCONNECTED.has(code);
}
