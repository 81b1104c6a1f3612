import { ByteReader, malformed } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import { MAX_COST } from '../../limits/bucket/rule.js';
import { MAX_RESERVATION_BYTES, readChecks, writeChecks } from '../../limits/format/checks.js';
import { MAX_ENTRY_BYTES, MAX_PART_BYTES } from '../../policy/policy-entry.js';
import { checkClients, decodeClients } from '../../state/client-format.js';
import type { Envelope, PeerAnswer, PeerMessage } from '../messages.js';
import { constant, flag, object, optional, text, whole, type Codec } from './codec.js';
import { clientId, leaseGrants, leaseRequests, leaseReturns } from './leases.js';
import { MAX_COUNT, member, members, nodeIds, sender, word } from './members.js';
import { clientDescription, ranking, report, settled, span, topClients, topFloor, use } from './observations.js';
import { changes, digest, entries, factors, part, policyName, ringWritten, tags, version } from './policies.js';
import { results } from './results.js';

/**
 * Version of the wire format, the first byte of each message and answer. Two peers agree on it when they connect; see
 * `protocol/link/handshake.ts`.
 *
 * One byte for the kind follows, the sender, and the fields of the kind in their order, with nothing behind them. Each
 * field stands once, with its bounds, so the code inside trusts the values. A new field needs a new version.
 */
export const WIRE_VERSION = 8;

/** Bound of a message without members, clients, or leases: the most is a part of the policies. */
const MAX_SHORT_BYTES = MAX_PART_BYTES + MAX_ENTRY_BYTES + 16 * 1024;
/** Bound of an answer with clients: half a MiB, and the last of them. */
const MAX_HANDED_BYTES = 3 * 1024 * 1024;

interface KindCodec<T> extends Codec<T> {
  /** Bound of the bytes of a whole message. A longer one is refused unread. */
  readonly maxBytes: number;
}

type Kinds<T extends { readonly kind: string }> = {
  readonly [K in T['kind']]: KindCodec<Extract<T, { readonly kind: K }>>;
};
type Fields<T> = { readonly [K in Exclude<keyof T, 'kind'>]-?: Codec<T[K]> };

/** The kinds in the order of their numbers on the wire. */
class KindTable<T extends { readonly kind: string }> {
  private readonly numbers = new Map<string, number>();
  private readonly codecs: KindCodec<T>[];

  constructor(
    private readonly what: string,
    kinds: Kinds<T>,
  ) {
    this.codecs = Object.values(kinds) as KindCodec<T>[];
    for (const kind of Object.keys(kinds)) this.numbers.set(kind, this.numbers.size);
  }

  write(out: ByteWriter, envelope: Envelope<T>): void {
    const number = this.numbers.get(envelope.body.kind)!;
    out.byte(WIRE_VERSION);
    out.byte(number);
    sender.write(out, envelope.sender);
    this.codecs[number]!.write(out, envelope.body);
  }

  read(bytes: Buffer): Envelope<T> {
    const from = new ByteReader(bytes);
    if (from.byte('version') !== WIRE_VERSION) throw malformed('version', String(WIRE_VERSION));
    const codec = this.codecs[from.byte(`kind of ${this.what}`)];
    if (codec === undefined) throw malformed(`kind of ${this.what}`, 'a known one');
    if (bytes.length > codec.maxBytes) throw malformed(this.what, `at most ${codec.maxBytes} bytes for its kind`);
    const sentBy = sender.read(from);
    const body = codec.read(from);
    from.finish();
    return { sender: sentBy, body };
  }
}

function kind<T extends { readonly kind: string }>(
  name: T['kind'],
  fields: Fields<T>,
  maxBytes = MAX_SHORT_BYTES,
): KindCodec<T> {
  const { write, read } = object({ kind: constant(name), ...fields } as Parameters<typeof object<T>>[0]);
  return { write, read, maxBytes };
}

type Message<K extends PeerMessage['kind']> = Extract<PeerMessage, { readonly kind: K }>;
type Answer<K extends PeerAnswer['kind']> = Extract<PeerAnswer, { readonly kind: K }>;

const messageId = text(1, 512, 'message id');
const refused = nodeIds('refused');
const count = whole(0, MAX_COUNT, 'count');
const partName = text(1, 512, 'name of entries');

/** All bytes that are left. */
const clients: Codec<Uint8Array> = {
  write: (out, value) => out.append(value),
  read(from) {
    const bytes = from.remaining();
    checkClients(bytes);
    return bytes;
  },
};

const policies: Fields<Message<'policies'>> = { version, digest, whole: flag, entries };

const MESSAGES = new KindTable<PeerMessage>('message', {
  decide: {
    write(out, message) {
      messageId.write(out, message.messageId);
      refused.write(out, message.refused);
      writeChecks(out, message.checks);
    },
    read: (from) => ({
      kind: 'decide',
      messageId: messageId.read(from),
      refused: refused.read(from),
      checks: readChecks(from),
    }),
    maxBytes: Infinity,
  },
  replicate: {
    write: (out, message) => clients.write(out, message.clients),
    read: (from) => ({ kind: 'replicate', clients: clients.read(from) }),
    maxBytes: Infinity,
  },
  heartbeat: kind<Message<'heartbeat'>>('heartbeat', { members }, Infinity),
  lease: kind<Message<'lease'>>('lease', { requests: leaseRequests, returns: leaseReturns }, Infinity),
  handoff: kind<Message<'handoff'>>('handoff', { chunk: count, gone: nodeIds('gone') }, Infinity),
  enter: kind<Message<'enter'>>('enter', { record: member, ring: word('ring'), members }, Infinity),
  paused: kind<Message<'paused'>>('paused', { incarnation: count }),
  describe: kind<Message<'describe'>>('describe', { clientId }),
  forget: kind<Message<'forget'>>('forget', { clientId }),
  settle: kind<Message<'settle'>>('settle', {
    clientId,
    reservation: text(1, MAX_RESERVATION_BYTES, 'reservation'),
    cost: whole(0, MAX_COST, 'cost'),
  }),
  top: kind<Message<'top'>>('top', { by: ranking, span, policy: optional(policyName, undefined) }),
  report: kind<Message<'report'>>('report', {}),
  use: kind<Message<'use'>>('use', { name: policyName }),
  load: kind<Message<'load'>>('load', { name: policyName, load: part('load') }),
  factors: kind<Message<'factors'>>('factors', { factors }),
  policies: kind<Message<'policies'>>('policies', policies),
  'fetch-policies': kind<Message<'fetch-policies'>>('fetch-policies', { version, digest }),
  'policy-part': kind<Message<'policy-part'>>('policy-part', { of: partName, part: count }),
  'write-policies': kind<Message<'write-policies'>>('write-policies', {
    writeId: text(1, 512, 'write id'),
    changes: optional(changes, null),
    ifMatch: optional(tags, undefined),
  }),
});

const ANSWERS = new KindTable<PeerAnswer>('answer', {
  decided: {
    write(out, answer) {
      results.write(out, answer.results);
      members.write(out, answer.members);
    },
    read: (from) => ({ kind: 'decided', results: results.read(from), members: members.read(from) }),
    maxBytes: Infinity,
  },
  kept: kind<Answer<'kept'>>('kept', {}),
  leased: kind<Answer<'leased'>>('leased', { grants: leaseGrants }, Infinity),
  members: kind<Answer<'members'>>('members', { members }, Infinity),
  handed: kind<Answer<'handed'>>('handed', { total: count, more: flag, clients }, MAX_HANDED_BYTES),
  'not-yet': kind<Answer<'not-yet'>>('not-yet', { members }, Infinity),
  acted: kind<Answer<'acted'>>('acted', { acted: flag }),
  described: kind<Answer<'described'>>('described', { client: clientDescription }),
  forgotten: kind<Answer<'forgotten'>>('forgotten', {}),
  top: kind<Answer<'top'>>('top', { clients: topClients, floor: topFloor }, Infinity),
  report: kind<Answer<'report'>>('report', { report }),
  use: kind<Answer<'use'>>('use', { use }),
  factors: kind<Answer<'factors'>>('factors', { factors }),
  settled: kind<Answer<'settled'>>('settled', { settled: optional(settled, null) }),
  policies: kind<Answer<'policies'>>('policies', policies),
  'policy-part': kind<Answer<'policy-part'>>('policy-part', { entries: optional(entries, null), more: flag }),
  'policies-written': kind<Answer<'policies-written'>>('policies-written', { written: optional(ringWritten, null) }),
});

/** Appends a message to `out`. */
export function writeMessage(out: ByteWriter, message: Envelope<PeerMessage>): void {
  MESSAGES.write(out, message);
}

/** Appends an answer to `out`. */
export function writeAnswer(out: ByteWriter, answer: Envelope<PeerAnswer>): void {
  ANSWERS.write(out, answer);
}

/** @throws MalformedMessage for bytes that `writeMessage` does not write for any valid message */
export function decodeMessage(bytes: Buffer): Envelope<PeerMessage> {
  return MESSAGES.read(bytes);
}

/** @throws MalformedMessage for bytes that `writeAnswer` does not write for any valid answer */
export function decodeAnswer(bytes: Buffer): Envelope<PeerAnswer> {
  return ANSWERS.read(bytes);
}

/** Formats a message or an answer as JSON, for people. */
export function inspect(body: PeerMessage | PeerAnswer): string {
  const isEncoded = 'clients' in body && body.clients instanceof Uint8Array;
  return JSON.stringify(isEncoded ? Object.assign({}, body, { clients: decodeClients(body.clients) }) : body);
}
