import type { PeerResult } from '../peer-transport.js';

export function broken(reason: string): PeerResult {
  return { kind: 'broken', reason };
}

interface SystemError extends Error {
  readonly code?: string;
  readonly syscall?: string;
  /** The errors of an AggregateError: one for each address of a name. */
  readonly errors?: readonly SystemError[];
}

/**
 * Turns an error of a connection into the result of its messages.
 *
 * Only a refused connect proves that no program listens. An unreachable host or network, or a name that is not found,
 * may be a fault on the path. The peer may then still be reachable for others.
 */
export function failureOf(error: SystemError): PeerResult {
  const causes = error.errors ?? [error];
  if (causes.every(({ code, syscall }) => code === 'ECONNREFUSED' && syscall === 'connect')) return { kind: 'refused' };
  if (causes.some(({ code }) => code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT')) return { kind: 'timeout' };
  return broken([error.code, error.message].filter(Boolean).join(': '));
}
