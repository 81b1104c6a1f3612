/** A place in a distributed trace, as callers and nodes send it (W3C Trace Context, level 1). */
export interface TraceContext {
  /** `00-` trace id, span id, flags, in lower-case hex. */
  readonly traceparent: string;
  /** Data of tracing systems, passed on as it came; empty if there is none. */
  readonly tracestate: string;
}

export const MAX_TRACESTATE_BYTES = 512;

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/;
const ZEROS = /^0+$/;
const PRINTABLE = /^[\x20-\x7e]*$/;

/** The ids of a `traceparent`. */
interface SpanIds {
  readonly traceId: string;
  readonly spanId: string;
  readonly flags: number;
}

/** @returns `undefined` for text that is no `traceparent`. Additions of a later version are not read. */
export function spanIdsOf(traceparent: string): SpanIds | undefined {
  const [, version, traceId, spanId, flags, more] = TRACEPARENT.exec(traceparent) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  if (ZEROS.test(traceId!) || ZEROS.test(spanId!)) return undefined;
  return { traceId: traceId!, spanId: spanId!, flags: Number.parseInt(flags!, 16) };
}

/** Formats ids as a `traceparent` of version 00. */
export function traceparentOf({ traceId, spanId, flags }: SpanIds): string {
  return `00-${traceId}-${spanId}-${flags.toString(16).padStart(2, '0')}`;
}

/**
 * Reads the headers of a request. A header that is not valid counts as absent. A `tracestate` that is too long is
 * dropped, as the trace goes on without it.
 */
export function readTraceContext(traceparent: string | undefined, tracestate = ''): TraceContext | undefined {
  const ids = traceparent === undefined ? undefined : spanIdsOf(traceparent);
  if (ids === undefined) return undefined;
  const passed = tracestate.length <= MAX_TRACESTATE_BYTES && PRINTABLE.test(tracestate);
  return { traceparent: traceparentOf(ids), tracestate: passed ? tracestate : '' };
}

/** The trace of a request by its headers, as Node reads them. A repeated `traceparent`, whose values Node joins, is none. */
export function traceOf({ traceparent, tracestate }: Readonly<Record<string, unknown>>): TraceContext | undefined {
  if (typeof traceparent !== 'string') return undefined;
  return readTraceContext(traceparent, typeof tracestate === 'string' ? tracestate : undefined);
}
