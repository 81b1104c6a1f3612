import { MAX_CLIENT_ID_BYTES } from '../../../limits/client-id.js';
import { clientKey } from '../../../limits/ring/client-hash.js';
import { createCheck } from '../../../limits/decide/decide.js';
import type { Check } from '../../../limits/decide/decide.js';
import { MAX_COST } from '../../../limits/bucket/rule.js';
import { MAX_TRACESTATE_BYTES, readTraceContext } from '../../../lib/trace-context.js';
import type { TraceContext } from '../../../lib/trace-context.js';
import type { Rule } from '../../../limits/bucket/rule.js';
import { malformed } from '../../../lib/byte-reader.js';
import { MAX_REQUEST_ID_BYTES, MAX_RESERVATION_BYTES } from '../wire.js';
import type { ByteReader } from '../../../lib/byte-reader.js';
import type { ByteWriter } from '../../../lib/byte-writer.js';
import { createRuleReader, createRuleWriter } from './rules.js';
import type { RuleReader } from './rules.js';

/** Bound of the checks in one batch, far above the batches of a forwarder. */
const MAX_CHECKS = 16_384;

/** Flags of a check. The first two are fields of the check. The others show which fields follow. */
const PEEK = 1;
const REPLICATED = 2;
const COST = 4;
const REQUEST_ID = 8;
const RESERVATION = 16;
const SEVERAL_RULES = 32;
const TRACED = 64;
const ALL_FLAGS = 127;

/**
 * Writes checks. Each is flags, rule or rules, and client id. Cost, request id, reservation, and trace follow if their
 * flags are set. A check of one token under one known rule takes three bytes and its client id.
 *
 * The hash of a client id is not sent, because computing it costs less than checking a hash from a peer.
 * A new field of every check goes between the client id and the cost, here and in `readCheck`, with a new
 * `WIRE_VERSION`.
 */
export function writeChecks(out: ByteWriter, checks: readonly Check[]): void {
  const rules = createRuleWriter(out);
  out.whole(checks.length);
  for (const check of checks) {
    const { cost, requestId, reservation, trace } = check;
    const several = check.rules.length > 1;
    out.byte(
      (check.peek ? PEEK : 0) |
        (check.replicated ? REPLICATED : 0) |
        (cost === 1 ? 0 : COST) |
        (requestId === undefined ? 0 : REQUEST_ID) |
        (reservation === undefined ? 0 : RESERVATION) |
        (several ? SEVERAL_RULES : 0) |
        (trace === undefined ? 0 : TRACED),
    );
    if (several) {
      out.byte(check.rules.length);
      for (const rule of check.rules) rules.write(rule);
    } else rules.write(check.rules[0]!);
    out.text(check.clientId);
    if (cost !== 1) out.whole(cost);
    if (requestId !== undefined) out.text(requestId);
    if (reservation !== undefined) out.text(reservation);
    if (trace !== undefined) writeTrace(out, trace);
  }
}

/** @throws MalformedMessage */
export function readChecks(from: ByteReader): readonly Check[] {
  const rules = createRuleReader();
  const count = from.whole(0, MAX_CHECKS, 'number of checks');
  const checks: Check[] = [];
  while (checks.length < count) checks.push(readCheck(from, rules));
  return checks;
}

function readCheck(from: ByteReader, table: RuleReader): Check {
  const flags = from.byte('flags of a check');
  if (flags > ALL_FLAGS) throw malformed('flags of a check', `0 to ${ALL_FLAGS}`);
  const rules: readonly Rule[] = (flags & SEVERAL_RULES) === 0 ? table.readOne(from) : table.readSeveral(from);
  const clientId = from.text(1, MAX_CLIENT_ID_BYTES, 'client id');
  const cost = (flags & COST) === 0 ? 1 : from.whole(1, MAX_COST, 'cost');
  const requestId = (flags & REQUEST_ID) === 0 ? undefined : from.text(1, MAX_REQUEST_ID_BYTES, 'request id');
  const reservation = (flags & RESERVATION) === 0 ? undefined : from.text(1, MAX_RESERVATION_BYTES, 'reservation');
  const trace = (flags & TRACED) === 0 ? undefined : readTrace(from);
  const peek = (flags & PEEK) !== 0;
  const replicated = (flags & REPLICATED) !== 0;
  return createCheck(clientKey(clientId), rules, { cost, peek, requestId, replicated, reservation, trace });
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
