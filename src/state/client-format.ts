import { ByteReader, malformed } from '../lib/byte-reader.js';
import { ByteWriter } from '../lib/byte-writer.js';
import { batchItemId, MAX_BATCH_ID_BYTES, MAX_BATCH } from '../limits/request/request.js';
import { MAX_CLIENT_ID_BYTES } from '../limits/client-id.js';
import { MAX_COST, ruleOf } from '../limits/bucket/rule.js';
import { snapshotOf, type Snapshot } from '../limits/bucket/snapshot.js';
import type { Verdict } from '../limits/decide/decide.js';
import { readBucket, readDebt, writeBucket, writePlainBucket, type PlainBucket } from '../limits/format/buckets.js';
import { MAX_REQUEST_ID_BYTES, MAX_RESERVATION_BYTES } from '../limits/format/checks.js';
import { RuleReader, RuleWriter } from '../limits/format/rules.js';
import { readVerdict, VERDICT_FLAGS, writeVerdict } from '../limits/format/verdicts.js';
import type { BucketTable } from './bucket-table.js';
import type { ClientSnapshot, RecentSnapshot, ReservationSnapshot } from './client.js';

/*
 * The format of clients in messages and in stores: its version, the number of clients (2 bytes, little-endian), and the
 * clients. It has durations only, so each receiver stamps its own clock. Other numbers are whole, in groups of seven
 * bits; texts have their length before them.
 *
 *     client       2 × number of buckets + `MORE`, id, buckets (limits/format/buckets.ts), and with `MORE` decisions,
 *                  `NO_DECISION`, number of reservations, reservations
 *     decision     `OWN_ID` and the request id, or `FIRST_BATCH` + number of its batch, the id of the batch if the
 *                  number is new, and the index in it; then age and verdict (limits/format/verdicts.ts)
 *     reservation  id, flags, age, cost, final cost, rules (limits/format/rules.ts), least debts
 *
 * A client with one token bucket takes its id and about eight bytes.
 */

/** The first byte of clients in this format. */
const CLIENT_FORMAT = 1;

const HEAD_BYTES = 3;
/**
 * Clients of one message; senders stop at 1,000. A receiver merges plain ones in a millisecond or two. Stores may have
 * more, up to 65,535.
 */
const MAX_CLIENTS = 1_024;
const MAX_BUCKETS = 10_000;
/** Bound of the request ids, and of the reservations, of one client. */
const MAX_RECENT = 10_000;
const MAX_AGE_MS = 3_600_000;

const MORE = 1;
const NO_DECISION = 0;
const OWN_ID = 1;
const FIRST_BATCH = 2;
/** Flag of a decision beside those of its verdict: an acting owner made it. */
const DEGRADED = 8;
/** Flag of a reservation: its final cost follows. */
const SETTLED = 1;

/**
 * Writes clients, each in this order: `begin`, its buckets, and then, if it has more, its decisions, `endDecisions`, and
 * its reservations.
 */
export class ClientWriter {
  private readonly out = new ByteWriter();
  private readonly rules = new RuleWriter();
  private readonly batches = new Map<string, number>();
  private count = 0;
  /** Place of the client that was begun last. */
  private begun = 0;

  /** @param ids has the ids of clients that are begun by their slots */
  constructor(private readonly ids?: Pick<BucketTable, 'copyId'>) {}

  /** Clients that were written since the last `take`. */
  get clients(): number {
    return this.count;
  }

  /** Bytes that were written since the last `take`. */
  get bytes(): number {
    return this.out.size;
  }

  /**
   * @param id the id, or the slot of a client of the table
   * @param hasMore whether decisions or reservations follow the buckets
   */
  begin(id: string | number, buckets: number, hasMore: boolean): void {
    const { out } = this;
    if (this.count === 0) this.writeHead();
    this.count += 1;
    this.begun = out.length;
    out.whole(2 * buckets + (hasMore ? MORE : 0));
    if (typeof id === 'string') return out.text(id);
    out.reserve(MAX_CLIENT_ID_BYTES + 2);
    const { bytes, length } = out;
    const idBytes = this.ids!.copyId(id, bytes, length + 1);
    // A long id has two bytes for its length.
    if (idBytes > 0x7f) bytes.copyWithin(length + 2, length + 1, length + 1 + idBytes);
    out.whole(idBytes);
    out.length += idBytes;
  }

  /** Drops the client that was begun last, of which nothing followed. */
  cancel(): void {
    this.count -= 1;
    this.out.length = this.count === 0 ? 0 : this.begun;
  }

  private writeHead(): void {
    const { out } = this;
    out.byte(CLIENT_FORMAT);
    out.reserve(HEAD_BYTES - 1);
    out.length = HEAD_BYTES;
  }

  plainBucket(bucket: Readonly<PlainBucket>): void {
    writePlainBucket(this.out, this.rules, bucket);
  }

  bucket(snapshot: Snapshot): void {
    writeBucket(this.out, this.rules, snapshot);
  }

  decision(requestId: string, ageMs: number, verdict: Verdict, degraded: boolean): void {
    this.out.whole(OWN_ID);
    this.out.text(requestId);
    this.out.whole(ageMs);
    writeVerdict(this.out, verdict, degraded ? DEGRADED : 0);
  }

  /** Writes the decision on an item of a batch. The id of a batch is written once. */
  itemDecision(batchId: string, index: number, ageMs: number, verdict: Omit<Verdict, 'limits'>): void {
    const { out, batches } = this;
    const known = batches.get(batchId);
    out.whole(FIRST_BATCH + (known ?? batches.size));
    if (known === undefined) {
      batches.set(batchId, batches.size);
      out.text(batchId);
    }
    out.whole(index);
    out.whole(ageMs);
    writeVerdict(out, verdict, 0);
  }

  endDecisions(reservations: number): void {
    this.out.whole(NO_DECISION);
    this.out.whole(reservations);
  }

  reservation({ id, ageMs, cost, settled, rules, least }: ReservationSnapshot): void {
    const { out } = this;
    out.text(id);
    out.byte(settled === undefined ? 0 : SETTLED);
    out.whole(ageMs);
    out.whole(cost);
    if (settled !== undefined) out.whole(settled);
    out.byte(rules.length);
    for (const rule of rules) this.rules.write(out, rule);
    for (const [tokens, part] of least) {
      out.whole(tokens);
      out.whole(part);
    }
  }

  /** Writes a whole client. */
  add([clientId, buckets, recent = [], reservations = []]: ClientSnapshot): void {
    const hasMore = recent.length > 0 || reservations.length > 0;
    this.begin(clientId, buckets.length, hasMore);
    for (const bucket of buckets) this.bucket(bucket);
    if (!hasMore) return;
    for (const { requestId, ageMs, verdict, degraded } of recent) this.decision(requestId, ageMs, verdict, degraded);
    this.endDecisions(reservations.length);
    for (const one of reservations) this.reservation(one);
  }

  /** Returns the clients that were written since the last call, in memory of their own. */
  take(): Buffer {
    const { out } = this;
    if (this.count === 0) this.writeHead();
    out.bytes.writeUInt16LE(this.count, 1);
    const taken = out.copy();
    out.clear();
    this.rules.clear();
    this.batches.clear();
    this.count = 0;
    return taken;
  }
}

export interface DecodedDecision {
  /** The request id, or the id of a batch. */
  readonly id: string;
  /** The index in the batch; −1 for a request id. */
  readonly index: number;
  readonly ageMs: number;
  readonly verdict: Verdict;
  readonly degraded: boolean;
}

/** A client that was read. It is valid until the next one is read. */
export class DecodedClient {
  /** The id is UTF-8, from `idStart` to before `idEnd` of the bytes. */
  idStart = 0;
  idEnd = 0;
  /** Whether `plain` is the client's only bucket. `others` is empty then. */
  isPlain = false;
  readonly plain: PlainBucket = { rule: NO_RULE, ruleChanges: 0, tokens: 0, part: 0 };
  others: readonly Snapshot[] = NONE;
  decisions: readonly DecodedDecision[] = NONE;
  reservations: readonly ReservationSnapshot[] = NONE;

  get hasLeases(): boolean {
    return this.others.some(({ leases }) => leases !== undefined);
  }

  snapshots(): readonly Snapshot[] {
    return this.isPlain ? [snapshotOfPlain(this.plain)] : this.others;
  }
}

const NONE: readonly never[] = [];
const NO_RULE = ruleOf('token-bucket', 1, 1, 1, undefined);

function snapshotOfPlain({ rule, ruleChanges, tokens, part }: PlainBucket): Snapshot {
  return snapshotOf(rule, ruleChanges, [tokens, part]);
}

/** Reads clients one by one. It allocates nothing for a client with one token bucket and nothing else. */
export class ClientReader {
  readonly bytes: Buffer;
  private readonly from: ByteReader;
  private readonly rules = new RuleReader();
  private readonly batchIds: string[] = [];
  private readonly client = new DecodedClient();
  /** Clients that are left. */
  left: number;

  /** @throws MalformedMessage if the clients have another format */
  constructor(clients: Uint8Array) {
    this.bytes = Buffer.from(clients.buffer, clients.byteOffset, clients.byteLength);
    this.from = new ByteReader(this.bytes);
    if (this.from.byte('format of clients') !== CLIENT_FORMAT)
      throw malformed('format of clients', String(CLIENT_FORMAT));
    this.left = this.bytes.readUInt16LE(this.from.skip(HEAD_BYTES - 1, 'number of clients'));
  }

  /** @returns the next client; `undefined` behind the last @throws MalformedMessage */
  next(): DecodedClient | undefined {
    const { from, client } = this;
    if (this.left === 0) {
      from.finish();
      return undefined;
    }
    this.left -= 1;
    const shape = from.whole(0, 2 * MAX_BUCKETS + MORE, 'number of buckets');
    client.idStart = from.skipText(1, MAX_CLIENT_ID_BYTES, 'client id');
    client.idEnd = from.at;
    this.readBuckets(shape >> 1);
    const hasMore = (shape & MORE) !== 0;
    client.decisions = hasMore ? this.readDecisions() : NONE;
    client.reservations = hasMore ? this.readReservations() : NONE;
    return client;
  }

  private readBuckets(count: number): void {
    const { from, client, rules } = this;
    const { plain } = client;
    client.isPlain = false;
    client.others = NONE;
    if (count === 0) return;
    const first = readBucket(from, rules, plain);
    if (first === undefined && count === 1) {
      client.isPlain = true;
      return;
    }
    const buckets = [first ?? snapshotOfPlain(plain)];
    while (buckets.length < count) buckets.push(readBucket(from, rules, plain) ?? snapshotOfPlain(plain));
    client.others = buckets;
  }

  private readDecisions(): readonly DecodedDecision[] {
    const { from, batchIds } = this;
    const decisions: DecodedDecision[] = [];
    for (;;) {
      const kind = from.whole(0, FIRST_BATCH + batchIds.length, 'number of a batch');
      if (kind === NO_DECISION) return decisions;
      if (decisions.length === MAX_RECENT) throw malformed('decisions', `at most ${MAX_RECENT}`);
      const id = kind === OWN_ID ? from.text(1, MAX_REQUEST_ID_BYTES, 'request id') : this.readBatchId(kind);
      const index = kind === OWN_ID ? -1 : from.whole(0, MAX_BATCH - 1, 'index in a batch');
      const ageMs = from.whole(0, MAX_AGE_MS, 'age');
      const flags = from.flags(VERDICT_FLAGS | DEGRADED, 'flags of a decision');
      decisions.push({ id, index, ageMs, verdict: readVerdict(from, flags), degraded: (flags & DEGRADED) !== 0 });
    }
  }

  private readBatchId(kind: number): string {
    const { batchIds } = this;
    const number = kind - FIRST_BATCH;
    if (number === batchIds.length) batchIds.push(this.from.text(1, MAX_BATCH_ID_BYTES, 'batch id'));
    return batchIds[number]!;
  }

  private readReservations(): readonly ReservationSnapshot[] {
    const count = this.from.whole(0, MAX_RECENT, 'number of reservations');
    const reservations: ReservationSnapshot[] = [];
    while (reservations.length < count) reservations.push(this.readReservation());
    return reservations;
  }

  private readReservation(): ReservationSnapshot {
    const { from } = this;
    const id = from.text(1, MAX_RESERVATION_BYTES, 'reservation');
    const flags = from.flags(SETTLED, 'flags of a reservation');
    const ageMs = from.whole(0, MAX_AGE_MS, 'age');
    const cost = from.whole(1, MAX_COST, 'cost');
    const settled = flags === SETTLED ? from.whole(0, MAX_COST, 'settled cost') : undefined;
    const rules = this.rules.readSeveral(from);
    return { id, ageMs, cost, settled, rules, least: rules.map((rule) => readDebt(from, rule)) };
  }
}

/** Requires that these are clients in this format, no more than one message may have. @throws MalformedMessage */
export function checkClients(clients: Uint8Array): void {
  const reader = new ClientReader(clients);
  if (reader.left > MAX_CLIENTS) throw malformed('number of clients', `at most ${MAX_CLIENTS}`);
  while (reader.next() !== undefined);
}

export function encodeClients(clients: readonly ClientSnapshot[]): Buffer {
  const writer = new ClientWriter();
  for (const client of clients) writer.add(client);
  return writer.take();
}

/** Reads clients as objects, for stores and for people. @throws MalformedMessage */
export function decodeClients(clients: Uint8Array): ClientSnapshot[] {
  const reader = new ClientReader(clients);
  const decoded: ClientSnapshot[] = [];
  for (let client = reader.next(); client !== undefined; client = reader.next()) {
    const clientId = reader.bytes.toString('utf8', client.idStart, client.idEnd);
    const { decisions, reservations } = client;
    const recent = decisions.map(({ id, index, ageMs, verdict, degraded }): RecentSnapshot => {
      return { requestId: index < 0 ? id : batchItemId(id, index), ageMs, verdict, degraded };
    });
    const buckets = client.snapshots();
    if (reservations.length > 0) decoded.push([clientId, buckets, recent, reservations]);
    else if (recent.length > 0) decoded.push([clientId, buckets, recent]);
    else decoded.push([clientId, buckets]);
  }
  return decoded;
}
