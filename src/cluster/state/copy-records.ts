import { MAX_CLIENT_ID_BYTES } from '../../core/client-id.js';
import { MAX_LIMIT, MAX_WINDOW_MS, ruleOf } from '../../core/bucket/rule.js';
import type { Rule } from '../../core/bucket/rule.js';
import type { BucketTable, Client } from './bucket-table.js';

/** Records of one message; senders stop at 1,000. A receiver merges them in a millisecond or two. */
const MAX_RECORDS = 1_024;
const MAX_RULE_CHANGES = 2 ** 31 - 1;
const MAX_DEBT = 2 ** 31 - 1;
const MAX_POLICY_BYTES = 512;
/** A record with a rule: seven numbers of at most ten bytes, the policy, and the id. */
const MAX_RECORD_BYTES = 7 * 10 + MAX_POLICY_BYTES + 1 + MAX_CLIENT_ID_BYTES;
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
}

/**
 * Writes the records of one message from the table in one pass. A record is: number of the rule, rule changes, tokens,
 * part, length of the id less 1, id. All but the last two are whole numbers in groups of seven bits, lowest first
 * (LEB128). If the number of a rule is new, the rule follows it: limit, window, capacity, length of the policy's name
 * or 0, name.
 */
interface RecordWriter {
  /** @param client has one token bucket with a debt, advanced to now */
  add(client: Client): void;
  readonly byteLength: number;
  /** Returns the records that were added since the last call; `undefined` if there are none. */
  take(): Uint8Array | undefined;
}

export function createRecordWriter({ copyId }: Pick<BucketTable, 'copyId'>): RecordWriter {
  let bytes = Buffer.allocUnsafeSlow(INITIAL_BYTES);
  let length = 0;
  const numbers = new Map<Rule, number>();

  function reserve(): void {
    if (length + MAX_RECORD_BYTES <= bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * bytes.length);
    bytes.copy(larger, 0, 0, length);
    bytes = larger;
  }

  function whole(value: number): void {
    let rest = value;
    for (; rest > MAX_DEBT; rest = Math.floor(rest / 128)) bytes[length++] = (rest % 128) | 0x80;
    for (; rest > 0x7f; rest >>>= 7) bytes[length++] = (rest & 0x7f) | 0x80;
    bytes[length++] = rest;
  }

  function writeRule(rule: Rule): void {
    const known = numbers.get(rule);
    whole(known ?? numbers.size);
    if (known !== undefined) return;
    numbers.set(rule, numbers.size);
    whole(rule.limit);
    whole(rule.windowMs);
    whole(rule.capacity);
    const { policy = '' } = rule;
    whole(Buffer.byteLength(policy));
    length += bytes.write(policy, length);
  }

  return {
    add(client) {
      reserve();
      writeRule(client.rule);
      whole(client.ruleChanges);
      whole(client.tokens);
      whole(client.part);
      const idBytes = copyId(client.slot, bytes, length + 1);
      bytes[length] = idBytes - 1;
      length += 1 + idBytes;
    },
    get byteLength() {
      return length;
    },
    take() {
      if (length === 0) return undefined;
      const taken = Buffer.from(bytes.subarray(0, length));
      length = 0;
      numbers.clear();
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
  const rules: Rule[] = [];
  const record: CopyRecord = { rule: NO_RULE, ruleChanges: 0, tokens: 0, part: 0, idStart: 0, idEnd: 0 };
  let at = 0;

  /** Reads a whole number. @returns −1 if there is none, or it is above `max` */
  function whole(max: number): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 56; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) return -1;
      value += (byte & 0x7f) * scale;
      if (byte <= 0x7f) return value <= max ? value : -1;
    }
    return -1;
  }

  function readRule(): Rule | undefined {
    const number = whole(rules.length);
    if (number < 0 || number < rules.length) return rules[number];
    const limit = whole(MAX_LIMIT);
    const windowMs = whole(MAX_WINDOW_MS);
    const capacity = whole(MAX_LIMIT);
    const nameBytes = whole(MAX_POLICY_BYTES);
    if (limit < 1 || windowMs < 1 || capacity < 1 || nameBytes < 0 || at + nameBytes > bytes.length) return undefined;
    const policy = nameBytes === 0 ? undefined : textOf(bytes, at, at + nameBytes);
    if (nameBytes > 0 && policy === undefined) return undefined;
    at += nameBytes;
    const rule = ruleOf('token-bucket', limit, windowMs, capacity, policy);
    rules.push(rule);
    return rule;
  }

  for (let count = 0; at < bytes.length; count += 1) {
    const rule = readRule();
    if (rule === undefined || count === MAX_RECORDS) return false;
    record.rule = rule;
    record.ruleChanges = whole(MAX_RULE_CHANGES);
    record.tokens = whole(MAX_DEBT);
    record.part = whole(rule.windowMs - 1);
    record.idStart = at + 1;
    record.idEnd = at + 2 + (bytes[at] ?? bytes.length);
    if (record.ruleChanges < 0 || record.tokens < 0 || record.part < 0 || record.idEnd > bytes.length) return false;
    at = record.idEnd;
    visit(record);
  }
  return true;
}

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
