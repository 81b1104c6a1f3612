import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import {
  MAX_LIMIT,
  MAX_RULES,
  MAX_SCOPE_BYTES,
  MAX_WINDOW_MS,
  ruleOf,
  sameBucket,
  type Algorithm,
  type Rule,
} from '../bucket/rule.js';

/** Policy names have at most 128 characters in the API. */
export const MAX_POLICY_BYTES = 512;
/** Bound of the rules in one message. The largest message has room for fewer. */
const MAX_TABLE = 1_000_000;

/** Flags of a rule. The last three show which fields follow. */
const SLIDING_WINDOW = 1;
const CAPACITY = 2;
const POLICY = 4;
const SCOPE = 8;
const ALL_FLAGS = 15;

/** Writes each rule of one message once. */
export class RuleWriter {
  private last: Rule | undefined;
  private lastIndex = 0;
  private size = 0;
  /** Created for the second rule, because most messages have only one. */
  private indexes: Map<Rule, number> | undefined;

  /**
   * Writes the index of a rule in the table of the message. At the first use of a rule, the index is the end of the
   * table and the definition follows: flags, limit, window in ms, capacity if it is not the limit, policy, and scope.
   */
  write(out: ByteWriter, rule: Rule): void {
    if (rule === this.last) return out.whole(this.lastIndex);
    let index = this.indexes?.get(rule);
    const known = index !== undefined;
    index ??= this.size;
    out.whole(index);
    if (!known) {
      if (this.last !== undefined) this.indexes ??= new Map([[this.last, this.lastIndex]]);
      this.indexes?.set(rule, index);
      this.size += 1;
      writeRule(out, rule);
    }
    this.last = rule;
    this.lastIndex = index;
  }

  /** Starts the table of another message. */
  clear(): void {
    this.last = undefined;
    this.lastIndex = 0;
    this.size = 0;
    this.indexes = undefined;
  }
}

/** Reads the rules of a `RuleWriter`. */
export class RuleReader {
  private readonly table: (readonly [Rule])[] = [];

  /** Reads a list of one rule. The same rule gives the same list. @throws MalformedMessage */
  readOne(from: ByteReader): readonly [Rule] {
    const index = from.whole(0, Math.min(this.table.length, MAX_TABLE - 1), 'rule');
    const known = this.table[index];
    if (known !== undefined) return known;
    const rule = [readRule(from)] as const;
    this.table.push(rule);
    return rule;
  }

  /**
   * Reads 1 to 8 rules of different buckets. Two rules of one bucket would charge a cost twice.
   * @throws MalformedMessage
   */
  readSeveral(from: ByteReader): readonly Rule[] {
    const rules: Rule[] = [];
    const count = from.whole(1, MAX_RULES, 'number of rules');
    while (rules.length < count) {
      const [rule] = this.readOne(from);
      if (rules.some((other) => sameBucket(other, rule))) throw malformed('rules of a check', 'distinct buckets');
      rules.push(rule);
    }
    return rules;
  }
}

function writeRule(out: ByteWriter, { algorithm, limit, windowMs, capacity, policy, scope }: Rule): void {
  const bursty = capacity !== limit;
  const named = (policy === undefined ? 0 : POLICY) | (scope === undefined ? 0 : SCOPE);
  out.byte((algorithm === 'sliding-window' ? SLIDING_WINDOW : 0) | (bursty ? CAPACITY : 0) | named);
  out.whole(limit);
  out.whole(windowMs);
  if (bursty) out.whole(capacity);
  if (policy !== undefined) out.text(policy);
  if (scope !== undefined) out.text(scope);
}

function readRule(from: ByteReader): Rule {
  const flags = from.flags(ALL_FLAGS, 'flags of a rule');
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
