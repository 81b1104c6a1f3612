import { AcquireQueue } from '../client/acquire-queue.js';
import { systemTime } from '../client/runtime.js';
import { TokenringError } from '../lib/error.js';
import { LimiterMethods } from '../limits/request/limiter.js';
import type { Limiter, OnUnavailable } from '../limits/request/limiter.js';
import type { CheckPipeline } from '../node/decide/check-pipeline.js';
import type { ClusterNode } from '../node/node.js';
import type { Policies } from '../policy/active-policies.js';
import { readCheck, readSettle, requireClientId } from '../server/validate/request.js';

/** The parts of a member that its limiter uses. */
interface LimitedMember {
  readonly checks: Pick<CheckPipeline, 'check'>;
  readonly node: Pick<ClusterNode, 'settler' | 'describe' | 'forget'> & { readonly activePolicies: Policies };
}

/** The limiter of a node in this process. */
export class LocalLimiter extends LimiterMethods implements Limiter {
  private readonly acquireQueue = new AcquireQueue((request) => this.check(request), systemTime);
  private closed = false;
  private closing: Promise<void> | undefined;

  /**
   * @param onUnavailable with `throw`, `check` rejects when the owner does not answer and the fallback denies
   * @param end leaves the ring; meanwhile, this limiter decides
   */
  constructor(
    private readonly member: LimitedMember,
    readonly onUnavailable: OnUnavailable,
    private readonly end: { leave(): Promise<void>; close(): Promise<void> },
  ) {
    super();
  }

  readonly check: Limiter['check'] = async (request) => {
    this.requireOpen();
    const decision = await this.member.checks.check(readCheck(request, this.member.node.activePolicies));
    if (this.onUnavailable === 'throw' && decision.source === 'fallback' && !decision.allowed)
      throw new TokenringError('unavailable', { detail: 'neither the owner of the client nor a successor answers' });
    return decision;
  };

  readonly acquire: Limiter['acquire'] = (request, options) => this.acquireQueue.acquire(request, options);

  readonly settle: Limiter['settle'] = async (reservation, cost) => {
    this.requireOpen();
    const { clientId } = readSettle({ reservation, cost });
    const settled = await this.member.node.settler.settle(clientId, reservation, cost);
    if (settled.kind === 'settled') return settled.settlement;
    if (settled.kind === 'unknown') throw new TokenringError('unknown_reservation', { field: 'reservation' });
    throw new TokenringError('unavailable', { detail: 'the owner does not answer; settle it again: it counts once' });
  };

  readonly describe: Limiter['describe'] = async (clientId) => {
    this.requireOpen();
    requireClientId(clientId);
    const client = await this.member.node.describe(clientId);
    if (client === undefined)
      throw new TokenringError('unavailable', { detail: 'the owner of the client does not answer' });
    return client;
  };

  readonly reset: Limiter['reset'] = async (clientId) => {
    this.requireOpen();
    requireClientId(clientId);
    if (!(await this.member.node.forget(clientId)))
      throw new TokenringError('unavailable', { detail: 'not every node has confirmed: reset it again' });
  };

  readonly close: Limiter['close'] = () => (this.closing ??= this.closeOnce());

  private async closeOnce(): Promise<void> {
    this.acquireQueue.close();
    await this.end.leave();
    this.closed = true;
    await this.end.close();
  }

  private requireOpen(): void {
    if (this.closed) throw new TokenringError('closed');
  }
}
