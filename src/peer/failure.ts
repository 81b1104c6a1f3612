import type { PeerResult } from '../cluster/ports.js';

export function broken(reason: string): PeerResult {
  return { kind: 'broken', reason };
}

interface SystemError extends Error {
  readonly code?: string;
  readonly syscall?: string;
  /** Of an AggregateError: one for each address of a name. */
  readonly errors?: readonly SystemError[];
}

/**
 * What an error of the connection says about the message.
 *
 * Only a refused connect proves that nobody listens: an unreachable host or network, or a name that is not found, may just
 * as well be a fault in between, and the peer alive for others.
 */
export function failureOf(error: SystemError): PeerResult {
  const causes = error.errors ?? [error];
  if (causes.every(({ code, syscall }) => code === 'ECONNREFUSED' && syscall === 'connect')) return { kind: 'refused' };
  if (causes.some(({ code }) => code === 'UND_ERR_CONNECT_TIMEOUT' || code === 'ETIMEDOUT')) return { kind: 'timeout' };
  return broken([error.code, error.message].filter(Boolean).join(': '));
}
