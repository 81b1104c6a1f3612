import type { IncomingHttpHeaders } from 'node:http';
import { CheckBatch } from '../../../limits/decide/check-batch.js';
import type { Check } from '../../../limits/decide/decide.js';
import { readTraceContext } from '../../../lib/trace-context.js';
import type { TraceContext } from '../../../lib/trace-context.js';

/** The trace of a request, if it has one. */
export function traceOf({ traceparent, tracestate }: IncomingHttpHeaders): TraceContext | undefined {
  // node:http joins the values of a repeated header. A repeated traceparent is none.
  if (typeof traceparent !== 'string') return undefined;
  return readTraceContext(traceparent, typeof tracestate === 'string' ? tracestate : undefined);
}

/** Adds the trace of its request to a check. */
export function tracedCheck(check: Check, trace: TraceContext | undefined): Check {
  return trace === undefined ? check : Object.assign({}, check, { trace });
}

/** Adds the trace of their request to the checks that are not answered yet. Each of them becomes an object. */
export function tracedBatch(batch: CheckBatch, trace: TraceContext | undefined): CheckBatch {
  if (trace === undefined) return batch;
  const traced = new CheckBatch(batch.size);
  for (let place = 0; place < batch.size; place += 1) {
    if (batch.isAnswered(place)) traced.addAnswer(batch.answerAt(place));
    else traced.add(Object.assign({}, batch.check(place), { trace }));
  }
  return traced;
}
