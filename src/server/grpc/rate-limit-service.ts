import { waitingBatchBytes } from '../../limits/heap-bytes.js';
import { CheckBatch, decideAlone } from '../../limits/decide/check-batch.js';
import type { Decision } from '../../limits/decide/decision.js';
import { rateLimitHeaders } from '../../limits/request/rate-limit-headers.js';
import type { TraceContext } from '../../lib/trace-context.js';
import type { ServerContext } from '../edge/server-context.js';
import type { Answer } from './call.js';
import type { AllOrNothing } from './all-or-nothing.js';
import { OK, OVER_LIMIT, readRateLimitRequest, writeRateLimitResponse, type DescriptorStatus } from './messages.js';
import { planOf, unitOf, type Plan, type Planned } from './rate-limit-plan.js';

export const RATE_LIMIT_SERVICE = 'envoy.service.ratelimit.v3.RateLimitService';

/** The rate limit service of Envoy. */
export class RateLimitService {
  constructor(
    private readonly context: Pick<ServerContext, 'limiter' | 'policies' | 'counters' | 'admission'>,
    private readonly allOrNothing: AllOrNothing,
  ) {}

  /**
   * Answers `ShouldRateLimit`, at once where it can.
   * @param prefix bytes to leave free before the answer
   * @throws TokenringError also by rejection
   */
  shouldRateLimit(message: Buffer, trace: TraceContext | undefined, prefix: number): Answer | Promise<Answer> {
    const { limiter, policies, admission } = this.context;
    const plans = planOf(readRateLimitRequest(message), policies, trace);
    const planned = plans.filter((plan) => typeof plan === 'object');
    const [first] = planned;
    if (first === undefined) return this.answer(plans, [], prefix);
    if (planned.length === 1) {
      admission.requireRoom('check');
      const decision = decideAlone(limiter, first.check);
      if (!(decision instanceof Promise)) return this.answer(plans, [decision], prefix);
      return this.later(waitingBatchBytes(CheckBatch.of([first.check])), decision, (one) =>
        this.answer(plans, [one], prefix),
      );
    }
    admission.requireRoom('batch');
    const checks = planned.map(({ check }) => check);
    const decisions = this.allOrNothing.decide(checks);
    if (!(decisions instanceof Promise)) return this.answer(plans, decisions, prefix);
    const bytes = waitingBatchBytes(CheckBatch.of(checks));
    return this.later(bytes, decisions, (all) => this.answer(plans, all, prefix));
  }

  private answer(plans: readonly Plan[], decisions: readonly Decision[], prefix: number): Answer {
    let index = 0;
    let overallCode: typeof OK | typeof OVER_LIMIT = OK;
    let shown: { readonly planned: Planned; readonly decision: Decision } | undefined;
    const statuses = plans.map((plan): DescriptorStatus => {
      if (plan === undefined || plan === 'unlimited') return plan === undefined ? NO_LIMIT : UNLIMITED;
      const decision = decisions[index]!;
      index += 1;
      this.context.counters.countDecision(decision.allowed, decision);
      if (!decision.allowed) overallCode = OVER_LIMIT;
      if (plan.headers && isTighter(decision, shown?.decision)) shown = { planned: plan, decision };
      return statusOf(plan, decision);
    });
    const responseHeaders = shown === undefined ? [] : rateLimitHeaders(shown.planned.check, shown.decision);
    const framed = writeRateLimitResponse({ overallCode, statuses, responseHeaders }, prefix);
    return { framed, source: decisions.length === 1 ? decisions[0]!.source : 'batch' };
  }

  private later<T>(bytes: number, waits: Promise<T>, then: (value: T) => Answer): Promise<Answer> {
    let result: Answer;
    const charged = this.context.admission.charge(
      bytes,
      waits.then((value) => {
        result = then(value);
      }),
    );
    return charged.then(() => result);
  }
}

const NO_LIMIT: DescriptorStatus = { code: OK, currentLimit: undefined, limitRemaining: 0, untilResetMs: 0 };
/** As envoyproxy/ratelimit answers for `unlimited`. */
const UNLIMITED: DescriptorStatus = { ...NO_LIMIT, limitRemaining: 0xffffffff };

function statusOf(
  { check, name }: Planned,
  { allowed, limit, remaining, resetMs, limits }: Decision,
): DescriptorStatus {
  const tightest = limits?.find((one) => one.limit === limit && one.remaining === remaining);
  const unit = unitOf(tightest?.windowMs ?? check.rules[0]!.windowMs);
  return {
    code: allowed ? OK : OVER_LIMIT,
    currentLimit: { name, requestsPerUnit: limit, unit },
    limitRemaining: remaining,
    untilResetMs: resetMs,
  };
}

/** Whether a decision says more to the caller than another: a denial, or fewer tokens left. */
function isTighter(a: Decision, b: Decision | undefined): boolean {
  if (b === undefined || a.allowed !== b.allowed) return b === undefined || !a.allowed;
  return a.remaining < b.remaining;
}
