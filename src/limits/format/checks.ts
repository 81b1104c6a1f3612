import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import { MAX_TRACESTATE_BYTES, readTraceContext, type TraceContext } from '../../lib/trace-context.js';
import { MAX_COST, type Rule } from '../bucket/rule.js';
import { MAX_CLIENT_ID_BYTES } from '../client-id.js';
import { createCheck, type Check, type CheckFields } from '../decide/check.js';
import { clientKey } from '../ring/client-hash.js';
import { RuleReader, RuleWriter } from './rules.js';

export const MAX_REQUEST_ID_BYTES = 128;
/** A reservation id is the client's name in base64, and a part that is unique among the client's reservations. */
export const MAX_RESERVATION_BYTES = 512;
/** Bound of the checks in one batch, far above the batches of a forwarder. */
const MAX_CHECKS = 16_384;

/**
 * The flag of each field of a check: that it is true, or that it follows the client id. The type makes the list complete,
 * and a test writes and reads checks with all fields. A new field gets the next bit, its place behind the trace in
 * `writeChecks` and `readCheck`, and with them a new `WIRE_VERSION`.
 */
const FLAGS = {
  peek: 1,
  replicated: 2,
  cost: 4,
  requestId: 8,
  reservation: 16,
  trace: 64,
  // The owner knows nothing of the policy: the node that received the request applies it.
  terms: 0,
} as const satisfies Record<keyof CheckFields, number>;
/** Flag of several rules. */
const SEVERAL_RULES = 32;
const ALL_FLAGS = Object.values(FLAGS).reduce((all, flag) => all | flag, SEVERAL_RULES);

/**
 * Writes checks. Each is flags, rule or rules, and client id. Cost, request id, reservation, and trace follow if their
 * flags are set. A check of one token under one known rule takes three bytes and its client id.
 *
 * The hash of a client id is not sent, because computing it costs less than checking a hash from a peer.
 */
export function writeChecks(out: ByteWriter, checks: readonly Check[]): void {
  const rules = new RuleWriter();
  out.whole(checks.length);
  for (const check of checks) {
    const { cost, requestId, reservation, trace } = check;
    const several = check.rules.length > 1;
    out.whole(
      (check.peek ? FLAGS.peek : 0) |
        (check.replicated ? FLAGS.replicated : 0) |
        (cost === 1 ? 0 : FLAGS.cost) |
        (requestId === undefined ? 0 : FLAGS.requestId) |
        (reservation === undefined ? 0 : FLAGS.reservation) |
        (several ? SEVERAL_RULES : 0) |
        (trace === undefined ? 0 : FLAGS.trace),
    );
    if (several) {
      out.byte(check.rules.length);
      for (const rule of check.rules) rules.write(out, rule);
    } else rules.write(out, check.rules[0]!);
    out.text(check.clientId);
    if (cost !== 1) out.whole(cost);
    if (requestId !== undefined) out.text(requestId);
    if (reservation !== undefined) out.text(reservation);
    if (trace !== undefined) writeTrace(out, trace);
  }
}

/** @throws MalformedMessage */
export function readChecks(from: ByteReader): readonly Check[] {
  const rules = new RuleReader();
  const count = from.whole(0, MAX_CHECKS, 'number of checks');
  const checks: Check[] = [];
  while (checks.length < count) checks.push(readCheck(from, rules));
  return checks;
}

function readCheck(from: ByteReader, table: RuleReader): Check {
  const flags = from.whole(0, ALL_FLAGS, 'flags of a check');
  const rules: readonly Rule[] = (flags & SEVERAL_RULES) === 0 ? table.readOne(from) : table.readSeveral(from);
  const clientId = from.text(1, MAX_CLIENT_ID_BYTES, 'client id');
  const cost = (flags & FLAGS.cost) === 0 ? 1 : from.whole(1, MAX_COST, 'cost');
  const requestId = (flags & FLAGS.requestId) === 0 ? undefined : from.text(1, MAX_REQUEST_ID_BYTES, 'request id');
  const reservation =
    (flags & FLAGS.reservation) === 0 ? undefined : from.text(1, MAX_RESERVATION_BYTES, 'reservation');
  const trace = (flags & FLAGS.trace) === 0 ? undefined : readTrace(from);
  const peek = (flags & FLAGS.peek) !== 0;
  const replicated = (flags & FLAGS.replicated) !== 0;
  const fields = { cost, peek, requestId, replicated, reservation, terms: undefined, trace } satisfies CheckFields;
  return createCheck(clientKey(clientId), rules, fields);
}

function writeTrace(out: ByteWriter, { traceparent, tracestate }: TraceContext): void {
  out.text(traceparent);
  out.text(tracestate);
}

function readTrace(from: ByteReader): TraceContext {
  const traceparent = from.text(55, 55, 'traceparent');
  const trace = readTraceContext(traceparent, from.text(0, MAX_TRACESTATE_BYTES, 'tracestate'));
  if (trace?.traceparent !== traceparent) throw malformed('traceparent', 'one of version 00');
  return trace;
}
