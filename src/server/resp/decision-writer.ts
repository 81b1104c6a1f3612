import type { BatchItem, CheckBatch } from '../../limits/decide/check-batch.js';
import type { Check } from '../../limits/decide/check.js';
import type { Provenance } from '../../limits/decide/decision.js';
import { TokenringError } from '../../lib/error.js';
import type { Counters } from '../edge/counters.js';
import { ProvenanceFragments } from '../edge/answer-buffers.js';
import { fragmentOf, type ByteWriter, type Fragment } from '../../lib/byte-writer.js';
import { ErrorText, RespMap, writeValue, type Protocol, type Value } from './value.js';

/** The form of the answer to a check. */
export type DecisionReply = ThrottleReply | typeof allowReply;

/** A check, and the form of its answer. */
export interface CheckCommand {
  readonly check: Check;
  readonly reply: DecisionReply;
}

/** The answer of redis-cell: five whole numbers. */
interface ThrottleReply {
  readonly kind: 'throttle';
  /** The beginning of an allowed and of a limited answer, up to `remaining`. */
  readonly passed: Fragment;
  readonly limited: Fragment;
  /** Time in ms in which one token comes back, for a check that consumes nothing; else `undefined`. */
  readonly peekMs: number | undefined;
}

export const allowReply = { kind: 'allow' } as const;

/**
 * @param limit tokens of a full bucket, which redis-cell calls the limit
 * @param peekMs time in ms in which one token comes back, if the check consumes nothing
 */
export function throttleReply(limit: number, peekMs: number | undefined): ThrottleReply {
  const head = (limited: 0 | 1): Fragment => fragmentOf(`*5\r\n:${limited}\r\n:${limit}\r\n:`);
  return { kind: 'throttle', passed: head(0), limited: head(1), peekMs };
}

/** Upper bound of a usual answer without its origin. */
const PLAIN_BYTES = 192;
/** `retryAfterMs` of a denial that no wait ends. */
const NEVER = -1;

const LINE = fragmentOf('\r\n');
const NUMBER = fragmentOf('\r\n:');
const NO_RETRY = fragmentOf('\r\n:-1\r\n:');
const NULL = fragmentOf('$-1\r\n');

/**
 * The constant parts of an answer to `TR.ALLOW`, which has the fields of the HTTP API. In RESP3 they have their names.
 * RESP2 has no names, so each field has its place; a reservation is the last, and `limits` and `shadow` are left out.
 */
const PARTS = {
  2: {
    allowed: ['*9\r\n:1\r\n:'].map(fragmentOf),
    denied: ['*9\r\n:0\r\n:'].map(fragmentOf),
    remaining: NUMBER,
    retry: NUMBER,
    never: NO_RETRY,
    afterNever: fragmentOf(''),
    reset: NUMBER,
  },
  3: {
    /** By the number of rare fields. */
    allowed: [8, 9, 10, 11].map((fields) => fragmentOf(`%${fields}\r\n$7\r\nallowed\r\n#t\r\n$5\r\nlimit\r\n:`)),
    denied: [8, 9, 10, 11].map((fields) => fragmentOf(`%${fields}\r\n$7\r\nallowed\r\n#f\r\n$5\r\nlimit\r\n:`)),
    remaining: fragmentOf('\r\n$9\r\nremaining\r\n:'),
    retry: fragmentOf('\r\n$12\r\nretryAfterMs\r\n:'),
    never: fragmentOf('\r\n$12\r\nretryAfterMs\r\n_'),
    afterNever: fragmentOf('\r\n$7\r\nresetMs\r\n:'),
    reset: fragmentOf('\r\n$7\r\nresetMs\r\n:'),
  },
} as const;

/** Writes decisions as bytes, without a string or an object for each. */
export class DecisionWriter {
  /** The last parts of answers to `TR.ALLOW`, by their origin. */
  private readonly tails = {
    2: new ProvenanceFragments((origin) => tailText(origin, 2)),
    3: new ProvenanceFragments((origin) => tailText(origin, 3)),
  };

  constructor(private readonly counters: Counters) {}

  /**
   * Writes the answers of a batch in order, and counts them.
   * @param replies the form of each answer, or the answer itself where the check was refused
   */
  write(
    out: ByteWriter,
    { items }: CheckBatch,
    replies: readonly (DecisionReply | ErrorText)[],
    protocol: Protocol,
  ): void {
    for (let index = 0; index < items.length; index += 1) this.writeItem(out, replies[index]!, items[index]!, protocol);
  }

  private writeItem(out: ByteWriter, reply: DecisionReply | ErrorText, item: BatchItem, protocol: Protocol): void {
    if (reply instanceof ErrorText || item.error !== undefined) {
      const error = reply instanceof ErrorText ? reply : item.error!;
      this.counters.countProblem(error instanceof TokenringError ? error.code : 'invalid_request');
      return writeValue(out, error, protocol);
    }
    this.counters.countDecision(item.allowed, item.provenance!);
    if (reply.kind === 'throttle') writeThrottle(out, reply, item);
    else this.writeAllow(out, item, protocol);
  }

  private writeAllow(out: ByteWriter, item: BatchItem, protocol: Protocol): void {
    const { allowed, limit, remaining, retryAfterMs, resetMs, provenance, extras } = item;
    const parts = PARTS[protocol];
    const tail = this.tails[protocol].of(provenance!);
    const rare = protocol === 3 ? rareFields(item) : NO_FIELDS;
    out.reserve(PLAIN_BYTES + tail.length);
    out.fragment((allowed ? parts.allowed : parts.denied)[rare.length]!);
    out.decimal(limit);
    out.fragment(parts.remaining);
    out.decimal(remaining);
    if (retryAfterMs === null) {
      out.fragment(parts.never);
      out.fragment(parts.afterNever);
    } else {
      out.fragment(parts.retry);
      out.decimal(retryAfterMs);
      out.fragment(parts.reset);
    }
    out.decimal(resetMs);
    out.fragment(tail);
    if (protocol === 2) {
      if (extras?.reservation === undefined) out.fragment(NULL);
      else writeValue(out, extras.reservation, protocol);
    } else for (const field of rare) for (const part of field) writeValue(out, part, protocol);
  }
}

type Field = readonly [name: string, value: Value];
const NO_FIELDS: readonly Field[] = [];

/** The fields that few decisions have. */
function rareFields({ limits, extras }: BatchItem): readonly Field[] {
  if (limits === undefined && extras === undefined) return NO_FIELDS;
  const fields: Field[] = [];
  if (limits !== undefined) fields.push(['limits', limits.map((one) => new RespMap(Object.entries(one)))]);
  if (extras?.reservation !== undefined) fields.push(['reservation', extras.reservation]);
  if (extras?.shadow !== undefined) fields.push(['shadow', new RespMap(Object.entries(extras.shadow))]);
  return fields;
}

function writeThrottle(
  out: ByteWriter,
  { passed, limited, peekMs }: ThrottleReply,
  { allowed, remaining, retryAfterMs, resetMs }: BatchItem,
): void {
  out.reserve(PLAIN_BYTES);
  // The check asked for one token, which a peek of redis-cell does not need. Below 1 ms, only rounding is left.
  const askedMs = retryAfterMs ?? NEVER;
  const waitMs = peekMs === undefined ? askedMs : Math.max(0, Math.floor(askedMs - peekMs));
  const isLimited = peekMs === undefined ? !allowed : waitMs > 0;
  out.fragment(isLimited ? limited : passed);
  out.decimal(remaining);
  if (!isLimited || waitMs === NEVER) out.fragment(NO_RETRY);
  else {
    out.fragment(NUMBER);
    out.decimal(Math.ceil(waitMs / 1_000));
    out.fragment(NUMBER);
  }
  out.decimal(Math.ceil(resetMs / 1_000));
  out.fragment(LINE);
}

function tailText({ owner, source, degraded }: Provenance, protocol: Protocol): string {
  const bulk = (text: string): string => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
  if (protocol === 2) return `\r\n${bulk(owner)}${bulk(source)}:${degraded ? 1 : 0}\r\n`;
  const flag = degraded ? '#t' : '#f';
  return `\r\n${bulk('owner')}${bulk(owner)}${bulk('source')}${bulk(source)}${bulk('degraded')}${flag}\r\n`;
}
