import type * as Api from '@opentelemetry/api';
import type { Attributes, Context, Span, SpanContext, SpanKind, Tracer, TracerProvider } from '@opentelemetry/api';
import type { CheckResult } from '../protocol/messages.js';
import type { ClusterNode } from '../node/node.js';
import type { BatchDecider, BatchItem, CheckBatch } from '../limits/decide/check-batch.js';
import type { Check } from '../limits/decide/check.js';
import type { Source } from '../limits/decide/decision.js';
import { readTraceContext, spanIdsOf, traceparentOf, type TraceContext } from '../lib/trace-context.js';
import { VERSION } from '../lib/version.js';

type Receive = ClusterNode['receive'];

/** Spans for decisions, by OpenTelemetry. */
export interface Tracing {
  /** Decides as `checks` does. Each decision has a span, and its owner learns of it. */
  atEntry(checks: BatchDecider): BatchDecider;
  /** Receives as `receive` does. Each traced check of a peer that this node decides has a span. */
  atOwner(receive: Receive): Receive;
}

/**
 * The provider of the API, which stands in for the registered one. Without one, its tracers do nothing, which costs
 * time on every decision.
 */
interface StandIn {
  /** @returns `undefined` if no provider is registered */
  getDelegateTracer(name: string, version: string): Tracer | undefined;
}

interface TracingOptions {
  /** Id of this node, once it is known. */
  readonly self: () => string;
  /** Whether spans name the client. */
  readonly clientIds: boolean;
}

/**
 * Finds the tracer of this process. A program registers its tracer provider before the node starts, for example in a
 * module that `node --import` loads.
 * @returns `undefined` if `@opentelemetry/api` is missing or no provider is registered; then nothing is traced
 */
export async function openTracing(options: TracingOptions): Promise<Tracing | undefined> {
  let api: typeof Api;
  try {
    api = await import('@opentelemetry/api');
  } catch {
    return undefined;
  }
  const provider: TracerProvider & Partial<StandIn> = api.trace.getTracerProvider();
  const tracer =
    provider.getDelegateTracer === undefined
      ? provider.getTracer('tokenring', VERSION)
      : provider.getDelegateTracer('tokenring', VERSION);
  return tracer && createTracing(api, tracer, options);
}

function createTracing(api: typeof Api, tracer: Tracer, { self, clientIds }: TracingOptions): Tracing {
  const { SERVER, INTERNAL } = api.SpanKind;

  /** Returns the context of the sender of a trace. */
  function remote(context: Context, { traceparent, tracestate }: TraceContext): Context {
    const { traceId, spanId, flags: traceFlags } = spanIdsOf(traceparent)!;
    const traceState = api.createTraceState(tracestate);
    return api.trace.setSpanContext(context, { traceId, spanId, traceFlags, traceState, isRemote: true });
  }

  function begin(name: string, kind: SpanKind, parent: Context, { clientId }: Check): Span {
    return tracer.startSpan(
      name,
      { kind, ...(clientIds && { attributes: { 'tokenring.client_id': clientId } }) },
      parent,
    );
  }

  /** Begins under the span in progress in this process, or else under what the caller sent. */
  function beginEntry(check: Check): Span {
    const active = api.context.active();
    if (check.trace === undefined || api.trace.getSpan(active) !== undefined)
      return begin('tokenring.decide', INTERNAL, active, check);
    return begin('tokenring.decide', SERVER, remote(active, check.trace), check);
  }

  function beginOwner(check: Check): Span | undefined {
    if (check.trace === undefined) return undefined;
    return begin('tokenring.decide.owner', SERVER, remote(api.ROOT_CONTEXT, check.trace), check);
  }

  /** Begins a span for each check that is not answered yet. */
  function beginBatch({ items }: CheckBatch): ReadonlyMap<BatchItem, Span> {
    const spans = new Map<BatchItem, Span>();
    for (const item of items) {
      if (item.isAnswered) continue;
      const span = beginEntry(item.check);
      item.traceUnder(contextOf(span.spanContext()));
      spans.set(item, span);
    }
    return spans;
  }

  function end(span: Span, { error, provenance, allowed }: BatchItem): void {
    if (error === undefined) {
      span.setAttributes(attributesOf(provenance!.source, provenance!.owner, outcomeOf(allowed)));
    } else {
      const { code } = error;
      span.setAttribute('error.type', code).setStatus({ code: api.SpanStatusCode.ERROR, message: code });
    }
    span.end();
  }

  return {
    atEntry: (checks) => ({
      decide(batch) {
        const spans = beginBatch(batch);
        const endAll = (): void => spans.forEach((span, item) => end(span, item));
        const later = checks.decide(batch);
        if (later !== undefined) return later.then(endAll);
        endAll();
        return undefined;
      },
    }),
    atOwner: (receive) => (message) => {
      const { body } = message;
      if (body.kind !== 'decide') return receive(message);
      const spans = body.checks.map(beginOwner);
      return receive(message).then((answer) => {
        const results = answer.body.kind === 'decided' ? answer.body.results : [];
        spans.forEach((span, i) => {
          const result = results[i];
          span?.setAttributes(attributesOf('owner', self(), outcomeAtOwner(result))).end();
        });
        return answer;
      });
    },
  };
}

function outcomeOf(allowed: boolean): 'allowed' | 'denied' {
  return allowed ? 'allowed' : 'denied';
}

function outcomeAtOwner(result: CheckResult | undefined): string {
  if (result === 'overloaded') return result;
  return result === undefined || result === 'not-mine' ? 'not_owner' : outcomeOf(result.verdict.allowed);
}

function attributesOf(source: Source, owner: string, outcome: string): Attributes {
  return { 'tokenring.source': source, 'tokenring.owner': owner, 'tokenring.outcome': outcome };
}

/** @returns `undefined` for a span without ids, as of a tracer that is switched off */
function contextOf({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceContext | undefined {
  return readTraceContext(traceparentOf({ traceId, spanId, flags: traceFlags }), traceState?.serialize());
}
