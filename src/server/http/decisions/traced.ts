import type { IncomingHttpHeaders } from 'node:http';
import type { CheckBatch } from '../../../limits/decide/check-batch.js';
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

/** Adds the trace of their request to the checks. */
export function tracedBatch(batch: CheckBatch, trace: TraceContext | undefined): CheckBatch {
  batch.trace = trace;
  for (const item of batch.items) if (item.isObject) item.traceUnder(trace);
  return batch;
}
