import { MAX_BATCH_ID_BYTES } from '../limits/batch-item-id.js';
import { MAX_CLIENT_ID_BYTES } from '../limits/client-id.js';
import { MAX_LIMIT, MAX_SCOPE_BYTES, MAX_WINDOW_MS, ruleOf } from '../limits/bucket/rule.js';
import type { Rule } from '../limits/bucket/rule.js';
import { MAX_BATCH } from '../limits/request/request.js';
import type { BucketTable, Client } from './bucket-table.js';

/** Records of one message; senders stop at 1,000. A receiver merges them in a millisecond or two. */
const MAX_RECORDS = 1_024;
const MAX_RULE_CHANGES = 2 ** 31 - 1;
const MAX_DEBT = 2 ** 31 - 1;
const MAX_POLICY_BYTES = 512;
/** A record with a rule: nine numbers of at most ten bytes, the policy, the scope, and the id. */
const MAX_RECORD_BYTES = 9 * 10 + MAX_POLICY_BYTES + MAX_SCOPE_BYTES + 1 + MAX_CLIENT_ID_BYTES;
/** Decisions of one record. */
const MAX_ITEMS = 1_000;
/** A decision: seven numbers, and the id of its batch. */
const MAX_ITEM_BYTES = 7 * 10 + MAX_BATCH_ID_BYTES;
const MAX_AGE_MS = 2 ** 31 - 1;
/** No wait is longer: a bucket with the largest debt, whose limit is 1 per longest window, refills in this time. */
const MAX_WAIT_MS = (MAX_DEBT + 1) * MAX_WINDOW_MS;
/** Flags of a decision. Where it has the limit of the record's rule, none follows. */
const ALLOWED = 1;
const HAS_LIMIT = 2;
const NEVER = 4;
/** Flag beside the number of a rule: decisions on items of batches follow the id of the client. */
const HAS_ITEMS = 1;
const INITIAL_BYTES = 16 * 1024;

/** A copy of a client that has one token bucket and nothing else. It takes about 30 bytes with a 20-byte id. */
interface CopyRecord {
  rule: Rule;
  ruleChanges: number;
  tokens: number;
  part: number;
  /** The client's id is UTF-8, from `idStart` to before `idEnd` of the records. */
  idStart: number;
  idEnd: number;
  /** Decisions on items of batches; valid until the next record. */
  readonly items: CopiedItem[];
  /** Number of `items` that are of this record. */
  itemCount: number;
}

/** A decision on an item of a batch, as in `batch-decisions.ts`. */
export interface CopiedItem {
  batchId: string;
  place: number;
  ageMs: number;
  allowed: boolean;
  limit: number;
  remaining: number;
  /** `null`: never. */
  retryAfterMs: number | null;
  resetMs: number;
}

/**
 * Writes the records of one message from the table in one pass. A record is: number of the rule (twice, plus
 * `HAS_ITEMS`), rule changes, tokens, part, length of the id less 1, id. All but the last two are whole numbers in
 * groups of seven bits, lowest first (LEB128). If the number of a rule is new, the rule follows it: limit, window,
 * capacity, length of the policy's name or 0, name, length of the scope or 0, scope.
 *
 * Decisions on items of batches may follow: their number, and for each the number of its batch, the place, age, flags,
 * remaining tokens, the limit and the wait where the flags say so, and ms until the reset. If the number of a batch is
 * new, the length of its id and the id follow.
 */
interface RecordWriter {
  /**
   * @param client has one token bucket, advanced to now
   * @param items decisions on items of batches, of which so many go with it
   */
  add(client: Client, items?: readonly CopiedItem[], itemCount?: number): void;
  byteLength(): number;
  /** Returns the records that were added since the last call; `undefined` if there are none. */
  take(): Uint8Array | undefined;
}

export function createRecordWriter(table: Pick<BucketTable, 'copyId'>): RecordWriter {
  let bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  let length = 0;
  const numbers = new Map<Rule, number>();
  const batchNumbers = new Map<string, number>();

  function reserve(itemCount: number): void {
    const needed = length + MAX_RECORD_BYTES + MAX_ITEM_BYTES * itemCount;
    if (needed <= bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * needed);
    bytes.copy(larger, 0, 0, length);
    bytes = larger;
  }

  function whole(value: number): void {
    let rest = value;
    for (; rest > MAX_DEBT; rest = Math.floor(rest / 128)) bytes[length++] = (rest % 128) | 0x80;
    for (; rest > 0x7f; rest >>>= 7) bytes[length++] = (rest & 0x7f) | 0x80;
    bytes[length++] = rest;
  }

  function text(value: string): void {
    whole(Buffer.byteLength(value));
    length += bytes.write(value, length);
  }

  function writeRule(rule: Rule, flags: number): void {
    const known = numbers.get(rule);
    whole(2 * (known ?? numbers.size) + flags);
    if (known !== undefined) return;
    numbers.set(rule, numbers.size);
    whole(rule.limit);
    whole(rule.windowMs);
    whole(rule.capacity);
    text(rule.policy ?? '');
    text(rule.scope ?? '');
  }

  function writeItem(item: CopiedItem, { limit }: Rule): void {
    const { batchId, retryAfterMs } = item;
    const known = batchNumbers.get(batchId);
    whole(known ?? batchNumbers.size);
    if (known === undefined) {
      batchNumbers.set(batchId, batchNumbers.size);
      text(batchId);
    }
    whole(item.place);
    whole(item.ageMs);
    const flags = (item.allowed ? ALLOWED : 0) | (item.limit === limit ? 0 : HAS_LIMIT);
    whole(retryAfterMs === null ? flags | NEVER : flags);
    whole(item.remaining);
    if (item.limit !== limit) whole(item.limit);
    if (!item.allowed && retryAfterMs !== null) whole(retryAfterMs);
    whole(item.resetMs);
  }

  return {
    add(client, items = NO_ITEMS, itemCount = 0) {
      reserve(itemCount);
      writeRule(client.rule, itemCount > 0 ? HAS_ITEMS : 0);
      whole(client.ruleChanges);
      whole(client.tokens);
      whole(client.part);
      const idBytes = table.copyId(client.slot, bytes, length + 1);
      bytes[length] = idBytes - 1;
      length += 1 + idBytes;
      if (itemCount === 0) return;
      whole(itemCount);
      for (let i = 0; i < itemCount; i += 1) writeItem(items[i]!, client.rule);
    },
    byteLength: () => length,
    take() {
      if (length === 0) return undefined;
      const taken = Buffer.from(bytes.subarray(0, length));
      length = 0;
      numbers.clear();
      batchNumbers.clear();
      return taken;
    },
  };
}

/**
 * Reads records one by one.
 * @param visit is called with each record, which is valid until the next call
 * @returns false at the first input that a `RecordWriter` does not write
 */
export function readRecords(bytes: Uint8Array, visit: (record: Readonly<CopyRecord>) => void): boolean {
  const from = createRecordReader(bytes);
  const rules: Rule[] = [];
  const batchIds: string[] = [];
  const record: CopyRecord = {
    rule: NO_RULE,
    ruleChanges: 0,
    tokens: 0,
    part: 0,
    idStart: 0,
    idEnd: 0,
    items: [],
    itemCount: 0,
  };

  for (let count = 0; from.at < bytes.length; count += 1) {
    const number = from.whole(2 * rules.length + 1);
    const rule = number < 0 ? undefined : readRule(from, rules, number >> 1);
    if (rule === undefined || count === MAX_RECORDS) return false;
    record.rule = rule;
    record.ruleChanges = from.whole(MAX_RULE_CHANGES);
    record.tokens = from.whole(MAX_DEBT);
    record.part = from.whole(rule.windowMs - 1);
    if (record.ruleChanges < 0 || record.tokens < 0 || record.part < 0) return false;
    record.idStart = from.at + 1;
    record.idEnd = from.at + 2 + (bytes[from.at] ?? bytes.length);
    if (record.idEnd > bytes.length) return false;
    from.at = record.idEnd;
    record.itemCount = (number & HAS_ITEMS) === 0 ? 0 : from.whole(MAX_ITEMS);
    if (record.itemCount < 0 || !readItems(from, batchIds, record)) return false;
    visit(record);
  }
  return true;
}

interface RecordReader {
  at: number;
  /** Reads a whole number. @returns −1 if there is none, or it is above `max` */
  whole(max: number): number;
  /** Reads the length of a text, and the text. @returns `undefined` if there is none, or it is longer than `max` */
  text(max: number): string | undefined;
}

function createRecordReader(bytes: Uint8Array): RecordReader {
  const reader: RecordReader = {
    at: 0,
    whole(max) {
      let value = 0;
      for (let scale = 1; scale <= MAX_WAIT_MS; scale *= 128) {
        const byte = bytes[reader.at++];
        if (byte === undefined) return -1;
        value += (byte & 0x7f) * scale;
        if (byte <= 0x7f) return value <= max ? value : -1;
      }
      return -1;
    },
    text(max) {
      const length = reader.whole(max);
      const start = reader.at;
      if (length < 0 || start + length > bytes.length) return undefined;
      reader.at = start + length;
      return textOf(bytes, start, reader.at);
    },
  };
  return reader;
}

/** @returns the rule with this number, which follows if it is new; `undefined` if it is not valid */
function readRule(from: RecordReader, rules: Rule[], number: number): Rule | undefined {
  if (number < rules.length) return rules[number];
  const limit = from.whole(MAX_LIMIT);
  const windowMs = from.whole(MAX_WINDOW_MS);
  const capacity = from.whole(MAX_LIMIT);
  if (limit < 1 || windowMs < 1 || capacity < 1) return undefined;
  const policy = from.text(MAX_POLICY_BYTES);
  const scope = policy === undefined ? undefined : from.text(MAX_SCOPE_BYTES);
  if (scope === undefined) return undefined;
  const rule = ruleOf('token-bucket', limit, windowMs, capacity, policy || undefined, scope || undefined);
  rules.push(rule);
  return rule;
}

/** Reads the decisions of a record. @returns whether they are valid */
function readItems(from: RecordReader, batchIds: string[], { rule, items, itemCount }: CopyRecord): boolean {
  for (let i = 0; i < itemCount; i += 1) {
    const number = from.whole(batchIds.length);
    if (number < 0) return false;
    if (number === batchIds.length) {
      const id = from.text(MAX_BATCH_ID_BYTES);
      if (id === undefined || id === '') return false;
      batchIds.push(id);
    }
    const place = from.whole(MAX_BATCH - 1);
    const ageMs = from.whole(MAX_AGE_MS);
    const flags = from.whole(ALLOWED | HAS_LIMIT | NEVER);
    const remaining = from.whole(MAX_LIMIT);
    const limit = (flags & HAS_LIMIT) === 0 ? rule.limit : from.whole(MAX_LIMIT);
    const retryAfterMs = (flags & (ALLOWED | NEVER)) === 0 ? from.whole(MAX_WAIT_MS) : 0;
    const resetMs = from.whole(MAX_WAIT_MS);
    if (Math.min(place, ageMs, flags, remaining, limit, retryAfterMs, resetMs) < 0) return false;
    if ((flags & ALLOWED) !== 0 && (flags & NEVER) !== 0) return false;
    const item = (items[i] ??= { ...NO_ITEM });
    item.batchId = batchIds[number]!;
    item.place = place;
    item.ageMs = ageMs;
    item.allowed = (flags & ALLOWED) !== 0;
    item.limit = limit;
    item.remaining = remaining;
    item.retryAfterMs = (flags & NEVER) === 0 ? retryAfterMs : null;
    item.resetMs = resetMs;
  }
  return true;
}

const NO_ITEMS: readonly CopiedItem[] = [];
/** All items are copies of it, so that they have one shape. */
export const NO_ITEM: CopiedItem = {
  batchId: '',
  place: 0,
  ageMs: 0,
  allowed: false,
  limit: 0,
  remaining: 0,
  retryAfterMs: 0,
  resetMs: 0,
};
const NO_RULE = ruleOf('token-bucket', 1, 1, 1, undefined);

/**
 * Whether these are records, each with an id in well-formed UTF-8. The edge checks this, and the cluster then trusts
 * the records.
 */
export function areRecords(bytes: Uint8Array): boolean {
  let wellFormed = true;
  const read = readRecords(bytes, ({ idStart, idEnd }) => {
    for (let i = idStart; i < idEnd; i += 1) {
      if (bytes[i]! <= 0x7f) continue;
      if (textOf(bytes, idStart, idEnd) === undefined) wellFormed = false;
      return;
    }
  });
  return read && wellFormed;
}

/** @returns the text, or `undefined` if the bytes are not UTF-8 */
function textOf(bytes: Uint8Array, start: number, end: number): string | undefined {
  const part = Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start);
  const text = part.toString('utf8');
  return Buffer.from(text).equals(part) ? text : undefined;
}
