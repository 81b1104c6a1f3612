import { CheckBatch, type BatchDecider, type BatchItem } from '../../limits/decide/check-batch.js';
import { rateLimitHeaders } from '../../limits/request/rate-limit-headers.js';
import { traceOf } from '../../lib/trace-context.js';
import type { ServerContext } from '../edge/server-context.js';
import { PREFIX_BYTES, type Call, type Method } from './call.js';
import { OK, OVER_LIMIT, readRateLimitRequest, writeRateLimitResponse, type DescriptorStatus } from './messages.js';
import { planOf, unitOf, type Plan } from './rate-limit-plan.js';

export const RATE_LIMIT_SERVICE = 'envoy.service.ratelimit.v3.RateLimitService';

/** `ShouldRateLimit`, the method of Envoy's rate limit service. */
export class ShouldRateLimit implements Method {
  readonly guarded = true;
  readonly streams = false;

  /** @param allOrNothing decides the checks of several descriptors */
  constructor(
    private readonly context: Pick<ServerContext, 'counters' | 'decide' | 'limiter' | 'policies'>,
    private readonly allOrNothing: BatchDecider,
  ) {}

  answer(message: Buffer, call: Call): Promise<void> | undefined {
    const { context } = this;
    const plans = planOf(readRateLimitRequest(message), context.policies, traceOf(call.headers));
    const batch = new CheckBatch();
    for (const plan of plans) if (typeof plan === 'object') batch.add(plan.check);
    if (batch.size === 0) return this.send(plans, batch, call);
    return context.decide(
      batch,
      () => this.send(plans, batch, call),
      batch.size === 1 ? context.limiter : this.allOrNothing,
    );
  }

  private send(plans: readonly Plan[], { items }: CheckBatch, call: Call): undefined {
    for (const { error } of items) if (error !== undefined) throw error;
    let index = 0;
    let overallCode: typeof OK | typeof OVER_LIMIT = OK;
    let shown: BatchItem | undefined;
    const statuses = plans.map((plan): DescriptorStatus => {
      if (plan === undefined || plan === 'unlimited') return plan === undefined ? NO_LIMIT : UNLIMITED;
      const item = items[index]!;
      index += 1;
      this.context.counters.countDecision(item.allowed, item.provenance!);
      if (!item.allowed) overallCode = OVER_LIMIT;
      if (plan.headers && isTighter(item, shown)) shown = item;
      return statusOf(plan.name, item);
    });
    const responseHeaders = shown === undefined ? [] : rateLimitHeaders(shown.params, shown);
    const framed = writeRateLimitResponse({ overallCode, statuses, responseHeaders }, PREFIX_BYTES);
    call.send(framed, items.length === 1 ? items[0]!.provenance!.source : 'batch');
  }
}

const NO_LIMIT: DescriptorStatus = { code: OK, currentLimit: undefined, limitRemaining: 0, untilResetMs: 0 };
/** As envoyproxy/ratelimit answers for `unlimited`. */
const UNLIMITED: DescriptorStatus = { ...NO_LIMIT, limitRemaining: 0xffffffff };

function statusOf(name: string, { allowed, limit, remaining, resetMs, limits, params }: BatchItem): DescriptorStatus {
  const tightest = limits?.find((one) => one.limit === limit && one.remaining === remaining);
  const unit = unitOf(tightest?.windowMs ?? params.rules[0]!.windowMs);
  return {
    code: allowed ? OK : OVER_LIMIT,
    currentLimit: { name, requestsPerUnit: limit, unit },
    limitRemaining: remaining,
    untilResetMs: resetMs,
  };
}

/** Whether a decision says more to the caller than another: a denial, or fewer tokens left. */
function isTighter(a: BatchItem, b: BatchItem | undefined): boolean {
  if (b === undefined || a.allowed !== b.allowed) return b === undefined || !a.allowed;
  return a.remaining < b.remaining;
}
