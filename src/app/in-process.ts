import { systemTime } from '../client/time.js';
import { createWaiting } from '../client/waiting.js';
import type { CheckPipeline } from '../node/decide/check-pipeline.js';
import type { ClusterNode } from '../node/node.js';
import type { Policies } from '../policy/active-policies.js';
import type { Decision } from '../limits/decide/decision.js';
import { TokenringError } from '../lib/error.js';
import { callsBy } from '../limits/request/limiter.js';
import type { Limiter, OnUnavailable } from '../limits/request/limiter.js';
import type { AllowRequest } from '../limits/request/request.js';
import { readCheck, readSettle, requireClientId } from '../server/validate/request.js';

interface InProcessDeps {
  readonly checks: Pick<CheckPipeline, 'check'>;
  readonly node: Pick<ClusterNode, 'settler' | 'describe' | 'forget'> & { readonly activePolicies: Policies };
}

/**
 * Creates the calls of a node in this process.
 * @param onUnavailable with `throw`, `check` rejects when the owner does not answer and the fallback denies
 */
export function callsOf(
  { checks, node: { activePolicies, settler, describe, forget } }: InProcessDeps,
  { isOpen, onUnavailable }: { isOpen: () => boolean; onUnavailable: OnUnavailable },
): { calls: Omit<Limiter, 'close'>; stopWaiting: () => void } {
  function requireOpen(): void {
    if (!isOpen()) throw new TokenringError('closed');
  }

  async function check(request: AllowRequest): Promise<Decision> {
    requireOpen();
    const decision = await checks.check(readCheck(request, activePolicies));
    if (onUnavailable === 'throw' && decision.source === 'fallback' && !decision.allowed)
      throw new TokenringError('unavailable', { detail: 'neither the owner of the client nor a successor answers' });
    return decision;
  }

  const waiting = createWaiting({ check, time: systemTime });
  const calls: Omit<Limiter, 'close'> = {
    onUnavailable,
    ...callsBy(check),
    acquire: waiting.acquire,
    async settle(reservation, cost) {
      requireOpen();
      const { clientId } = readSettle({ reservation, cost });
      const settled = await settler.settle(clientId, reservation, cost);
      if (settled.kind === 'settled') return settled.settlement;
      if (settled.kind === 'unknown') throw new TokenringError('unknown_reservation', { field: 'reservation' });
      throw new TokenringError('unavailable', { detail: 'the owner does not answer; settle it again: it counts once' });
    },
    async describe(clientId) {
      requireOpen();
      requireClientId(clientId);
      const client = await describe(clientId);
      if (client === undefined)
        throw new TokenringError('unavailable', { detail: 'the owner of the client does not answer' });
      return client;
    },
    async reset(clientId) {
      requireOpen();
      requireClientId(clientId);
      if (!(await forget(clientId)))
        throw new TokenringError('unavailable', { detail: 'not every node has confirmed: reset it again' });
    },
  };
  return { calls, stopWaiting: waiting.close };
}
