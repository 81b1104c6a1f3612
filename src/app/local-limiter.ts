import { AcquireQueue } from '../client/acquire-queue.js';
import { systemTime } from '../client/runtime.js';
import { TokenringError } from '../lib/error.js';
import { decideAlone, type BatchDecider } from '../limits/decide/check-batch.js';
import { LimiterMethods, type Limiter, type OnUnavailable } from '../limits/request/limiter.js';
import type { Policies } from '../policy/active-policies.js';
import { ClientCalls, type ClientNode } from '../server/edge/client-calls.js';
import { readCheck } from '../server/validate/request.js';

/** The parts of a member that its limiter uses. */
interface LimitedMember {
  readonly checks: BatchDecider;
  readonly node: ClientNode & { readonly activePolicies: Policies };
}

/** The limiter of a node in this process. */
export class LocalLimiter extends LimiterMethods implements Limiter {
  private readonly acquireQueue = new AcquireQueue((request) => this.check(request), systemTime);
  private readonly calls: ClientCalls;
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
    this.calls = new ClientCalls(member.node);
  }

  readonly check: Limiter['check'] = async (request) => {
    this.requireOpen();
    const decision = await decideAlone(this.member.checks, readCheck(request, this.member.node.activePolicies));
    if (this.onUnavailable === 'throw' && decision.source === 'fallback' && !decision.allowed)
      throw new TokenringError('unavailable', { detail: 'neither the owner of the client nor a successor answers' });
    return decision;
  };

  readonly acquire: Limiter['acquire'] = (request, options) => this.acquireQueue.acquire(request, options);

  readonly settle: Limiter['settle'] = async (reservation, cost) => {
    this.requireOpen();
    return (await this.calls.settle({ reservation, cost })).settlement;
  };

  readonly describe: Limiter['describe'] = async (clientId) => {
    this.requireOpen();
    return this.calls.describe(clientId);
  };

  readonly reset: Limiter['reset'] = async (clientId) => {
    this.requireOpen();
    return this.calls.reset(clientId);
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
