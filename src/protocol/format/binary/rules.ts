import {
  MAX_LIMIT,
  MAX_RULES,
  MAX_SCOPE_BYTES,
  MAX_WINDOW_MS,
  ruleOf,
  sameBucket,
} from '../../../limits/bucket/rule.js';
import type { Algorithm, Rule } from '../../../limits/bucket/rule.js';
import { MAX_POLICY_BYTES } from '../rules.js';
import { malformed } from '../../../lib/byte-reader.js';
import type { ByteReader } from '../../../lib/byte-reader.js';
import type { ByteWriter } from '../../../lib/byte-writer.js';

/** Flags of a definition. */
const SLIDING_WINDOW = 1;
const CAPACITY = 2;
const POLICY = 4;
const SCOPE = 8;
/** Bound of the rules in one message. The largest message has room for fewer. */
const MAX_TABLE = 1_000_000;

/** Writes each rule of one message once. */
export interface RuleWriter {
  /**
   * Writes the place of a rule in the table. At the first use of a rule, the place is the end of the table and the
   * definition follows: flags, limit, window in ms, capacity if it is not the limit, policy, and scope.
   */
  write(rule: Rule): void;
}

export function createRuleWriter(out: ByteWriter): RuleWriter {
  let last: Rule | undefined;
  let lastPlace = 0;
  let size = 0;
  /** Created for the second rule, because most messages have only one. */
  let places: Map<Rule, number> | undefined;

  return {
    write(rule) {
      if (rule === last) return out.whole(lastPlace);
      let place = places?.get(rule);
      const known = place !== undefined;
      place ??= size;
      out.whole(place);
      if (!known) {
        if (last !== undefined) places ??= new Map([[last, lastPlace]]);
        places?.set(rule, place);
        size += 1;
        writeRule(out, rule);
      }
      last = rule;
      lastPlace = place;
    },
  };
}

function writeRule(out: ByteWriter, { algorithm, limit, windowMs, capacity, policy, scope }: Rule): void {
  const sliding = algorithm === 'sliding-window';
  const bursty = capacity !== limit;
  const named = (policy === undefined ? 0 : POLICY) | (scope === undefined ? 0 : SCOPE);
  out.byte((sliding ? SLIDING_WINDOW : 0) | (bursty ? CAPACITY : 0) | named);
  out.whole(limit);
  out.whole(windowMs);
  if (bursty) out.whole(capacity);
  if (policy !== undefined) out.text(policy);
  if (scope !== undefined) out.text(scope);
}

/** Reads the rules of a `RuleWriter`. Both methods throw MalformedMessage. */
export interface RuleReader {
  /** Reads a list of one rule. The same rule gives the same list. */
  readOne(from: ByteReader): readonly Rule[];
  /** Reads 1 to 8 rules of different buckets. Two rules of one bucket would charge a cost twice. */
  readSeveral(from: ByteReader): readonly Rule[];
}

export function createRuleReader(): RuleReader {
  const table: (readonly Rule[])[] = [];

  function readOne(from: ByteReader): readonly Rule[] {
    const place = from.whole(0, Math.min(table.length, MAX_TABLE - 1), 'rule');
    const known = table[place];
    if (known !== undefined) return known;
    const rule = [readRule(from)];
    table.push(rule);
    return rule;
  }

  return {
    readOne,
    readSeveral(from) {
      const rules: Rule[] = [];
      const count = from.whole(1, MAX_RULES, 'number of rules');
      while (rules.length < count) {
        const rule = readOne(from)[0]!;
        if (rules.some((other) => sameBucket(other, rule))) throw malformed('rules of a check', 'distinct buckets');
        rules.push(rule);
      }
      return rules;
    },
  };
}

function readRule(from: ByteReader): Rule {
  const flags = from.byte('flags of a rule');
  if (flags > (SLIDING_WINDOW | CAPACITY | POLICY | SCOPE)) throw malformed('flags of a rule', '0 to 15');
  const algorithm: Algorithm = (flags & SLIDING_WINDOW) === 0 ? 'token-bucket' : 'sliding-window';
  const limit = from.whole(0, MAX_LIMIT, 'limit');
  const windowMs = from.whole(1, MAX_WINDOW_MS, 'window');
  let capacity = limit;
  if ((flags & CAPACITY) !== 0) {
    if (algorithm === 'sliding-window') throw malformed('capacity', 'none, as a sliding window has no burst');
    capacity = from.whole(1, MAX_LIMIT, 'capacity');
  }
  const policy = (flags & POLICY) === 0 ? undefined : from.text(1, MAX_POLICY_BYTES, 'policy');
  const scope = (flags & SCOPE) === 0 ? undefined : from.text(1, MAX_SCOPE_BYTES, 'scope');
  return ruleOf(algorithm, limit, windowMs, capacity, policy, scope);
}
