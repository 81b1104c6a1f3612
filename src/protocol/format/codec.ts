import type { Envelope, PeerAnswer, PeerMessage } from '../messages.js';
import { areRecords } from '../../state/copy-records.js';
import { MAX_ENTRY_BYTES, MAX_PART_BYTES } from '../../policy/policy-entry.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { MAX_COST } from '../../limits/bucket/rule.js';
import { malformed } from '../../lib/byte-reader.js';
import {
  mapList,
  parseWire,
  readClientId,
  readFlag,
  readList,
  readNodeId,
  readReservationId,
  readText,
  readWhole,
} from './wire.js';
import { ByteReader } from '../../lib/byte-reader.js';
import { ByteWriter } from '../../lib/byte-writer.js';
import { readChecks, writeChecks } from './binary/checks.js';
import { readClients as readBinaryClients, writeClients } from './binary/clients.js';
import {
  readIds as readBinaryIds,
  readMembers as readBinaryMembers,
  readSender as readBinarySender,
  writeIds,
  writeMembers,
  writeSender,
} from './binary/members.js';
import { readResults, writeResults } from './binary/results.js';
import { encodeClients, encodeDescription, readClients, readDescription } from './clients.js';
import {
  encodeGrant,
  encodeReturn,
  encodeLeaseRequests,
  readGrants,
  readReturns,
  readLeaseRequests,
} from './leases.js';
import {
  encodeMember,
  encodeSender,
  MAX_COUNT,
  MAX_MEMBERS,
  readMember,
  readMembers,
  readSender,
  readWord,
} from './members.js';
import {
  encodeEntries,
  encodePolicies,
  encodeWritten,
  MAX_VERSION,
  MAX_WRITE_ID_BYTES,
  readChanges,
  readEntries,
  readPolicies,
  readFactors,
  readPart,
  readPolicyName,
  readTags,
  readWritten,
} from './policies.js';
import {
  encodeReport,
  encodeTopPart,
  encodeTopQuery,
  readReport,
  readTopPart,
  readTopQuery,
  readUse,
} from './observations.js';
import { encodeSettled, readSettled } from './settled.js';

/**
 * Version of the wire format. Two peers agree on it when they connect; see `protocol/link/handshake.ts`.
 *
 * Every forwarded decision needs the three kinds `decide`, `decided`, and `replicate`. These are binary, in `binary/`:
 * one byte for the kind, the sender, and the fields in order, with nothing after them. A new field goes to the place
 * where it is read, with a new version. The other kinds are JSON, so that people can read a dump. They use lists
 * instead of objects and one letter for a kind: `["f",[sender],"alice"]`. The first byte distinguishes the two formats.
 *
 * Reading checks every type and range, so the code inside trusts the values.
 */
export const WIRE_VERSION = 7;

const DECIDE = 1;
const REPLICATE = 2;
const DECIDED = 3;
/** The first byte of a JSON list. */
const LIST = 0x5b;

const MAX_DECIDE_ID_BYTES = 512;
/** Bound of an answer with clients: half a MiB, and with the last of them up to 2 MB more. */
const MAX_HANDED_BYTES = 3 * 1024 * 1024;
const HANDED = '["h"';
/** Bound of JSON without members, clients, or leases: the most is a part of the policies. It is read in a few ms. */
const MAX_SHORT_BYTES = MAX_PART_BYTES + MAX_ENTRY_BYTES + 16 * 1024;
/** The first bytes of kinds with longer lists, as they are written. */
const LONG_MESSAGES = ['["h"', '["l"', '["o"', '["a"'];
const LONG_ANSWERS = [HANDED, '["l"', '["m"', '["n"', '["q"'];
const MAX_CHUNK = 2 ** 52;

/** Appends a message to `out`. */
export function writeMessage(out: ByteWriter, { sender, body }: Envelope<PeerMessage>): void {
  switch (body.kind) {
    case 'decide':
      out.byte(DECIDE);
      writeSender(out, sender);
      out.text(body.batchId);
      writeIds(out, body.refused);
      return writeChecks(out, body.checks);
    case 'replicate':
      out.byte(REPLICATE);
      writeSender(out, sender);
      writeClients(out, body.clients);
      return body.records === undefined ? undefined : out.append(body.records);
    default:
      return out.utf8(JSON.stringify(messageWire(encodeSender(sender), body)));
  }
}

export function encodeMessage(message: Envelope<PeerMessage>): Buffer {
  const out = new ByteWriter();
  writeMessage(out, message);
  return out.bytes.subarray(0, out.length);
}

function messageWire(sender: unknown[], body: Exclude<PeerMessage, { kind: 'decide' | 'replicate' }>): unknown[] {
  switch (body.kind) {
    case 'heartbeat':
      return ['h', sender, body.members.map(encodeMember)];
    case 'lease':
      return ['l', sender, ...encodeLeaseRequests(body.requests), body.returns.map(encodeReturn)];
    case 'handoff':
      return ['o', sender, body.chunk, body.gone];
    case 'admit':
      return ['a', sender, encodeMember(body.record), body.ring, body.members.map(encodeMember)];
    case 'paused':
      return ['u', sender, body.incarnation];
    case 'describe':
      return ['s', sender, body.clientId];
    case 'forget':
      return ['f', sender, body.clientId];
    case 'settle':
      return ['t', sender, body.clientId, body.reservation, body.cost];
    case 'top':
      return ['q', sender, ...encodeTopQuery(body)];
    case 'report':
      return ['r', sender];
    case 'use':
      return ['e', sender, body.name];
    case 'load':
      return ['y', sender, body.name, body.load];
    case 'factors':
      return ['x', sender, body.factors];
    case 'policies':
      return ['p', sender, ...encodePolicies(body)];
    case 'fetch-policies':
      return ['v', sender, body.version, body.digest];
    case 'policy-part':
      return ['g', sender, body.of, body.part];
    case 'write-policies':
      return ['w', sender, body.writeId, body.changes, body.ifMatch ?? null];
  }
}

/** @throws MalformedMessage for bytes that `writeMessage` does not write for any valid message */
export function decodeMessage(bytes: Buffer): Envelope<PeerMessage> {
  if (bytes[0] !== LIST) return decodeBinary(bytes, readBinaryMessage);
  refuseLong(bytes, LONG_MESSAGES);
  const wire = readList(parseWire(bytes), 2, 6, 'message');
  return { sender: readSender(wire[1]), body: readMessage(wire) };
}

function decodeBinary<T>(bytes: Buffer, readBody: (kind: number, from: ByteReader) => T): Envelope<T> {
  const from = new ByteReader(bytes, 1);
  const sender = readBinarySender(from);
  const body = readBody(bytes[0]!, from);
  from.finish();
  return { sender, body };
}

/** Reads snapshots of clients, and the records after them if there are any. */
function readReplicate(from: ByteReader): PeerMessage {
  const clients = readBinaryClients(from);
  const records = from.remaining();
  if (records.length === 0) return { kind: 'replicate', clients };
  if (!areRecords(records)) throw malformed('records', 'well-formed copies');
  return { kind: 'replicate', clients, records };
}

function readBinaryMessage(kind: number, from: ByteReader): PeerMessage {
  switch (kind) {
    case DECIDE:
      return {
        kind: 'decide',
        batchId: from.text(1, MAX_DECIDE_ID_BYTES, 'batch id'),
        refused: readBinaryIds(from, 'refused'),
        checks: readChecks(from),
      };
    case REPLICATE:
      return readReplicate(from);
    default:
      throw malformed('kind of message', 'a known one');
  }
}

function readMessage(wire: readonly unknown[]): PeerMessage {
  switch (wire[0]) {
    case 'h':
      return { kind: 'heartbeat', members: readMembers(sized(wire, 3)[2]) };
    case 'l':
      return { kind: 'lease', requests: readLeaseRequests(wire[2], wire[3]), returns: readReturns(sized(wire, 5)[4]) };
    case 'o':
      return {
        kind: 'handoff',
        chunk: readWhole(wire[2], 0, MAX_CHUNK, 'chunk'),
        gone: readIds(sized(wire, 4)[3], 'gone'),
      };
    case 'a':
      return {
        kind: 'admit',
        record: readMember(wire[2]),
        ring: readWord(wire[3], 'ring'),
        members: readMembers(sized(wire, 5)[4]),
      };
    case 'u':
      return { kind: 'paused', incarnation: readWhole(sized(wire, 3)[2], 0, MAX_COUNT, 'incarnation') };
    case 's':
      return { kind: 'describe', clientId: readClientId(sized(wire, 3)[2]) };
    case 'f':
      return { kind: 'forget', clientId: readClientId(sized(wire, 3)[2]) };
    case 't':
      return {
        kind: 'settle',
        clientId: readClientId(sized(wire, 5)[2]),
        reservation: readReservationId(wire[3]),
        cost: readWhole(wire[4], 0, MAX_COST, 'cost'),
      };
    case 'q':
      return { kind: 'top', ...readTopQuery(wire[2], wire[3], sized(wire, 5)[4]) };
    case 'r':
      sized(wire, 2);
      return { kind: 'report' };
    case 'e':
      return { kind: 'use', name: readPolicyName(sized(wire, 3)[2]) };
    case 'y':
      return { kind: 'load', name: readPolicyName(sized(wire, 4)[2]), load: readPart(wire[3], 'load') };
    case 'x':
      return { kind: 'factors', factors: readFactors(sized(wire, 3)[2]) };
    case 'p':
      return readPolicies(sized(wire, 6), 2);
    case 'v':
      return {
        kind: 'fetch-policies',
        version: readWhole(sized(wire, 4)[2], 0, MAX_VERSION, 'version of policies'),
        digest: readWord(wire[3], 'digest of policies'),
      };
    case 'g':
      return {
        kind: 'policy-part',
        of: readText(sized(wire, 4)[2], 1, MAX_WRITE_ID_BYTES, 'name of entries'),
        part: readWhole(wire[3], 0, MAX_COUNT, 'part'),
      };
    case 'w':
      return {
        kind: 'write-policies',
        writeId: readText(wire[2], 1, MAX_WRITE_ID_BYTES, 'write id'),
        changes: wire[3] === null ? null : readChanges(wire[3]),
        ifMatch: readTags(sized(wire, 5)[4]),
      };
    default:
      throw malformed('kind of message', 'h, l, o, a, u, s, f, t, q, r, e, y, x, p, v, g or w');
  }
}

function readIds(value: unknown, what: string): readonly NodeId[] {
  return mapList(value, MAX_MEMBERS, what, (id) => readNodeId(id, what));
}

/** Appends an answer to `out`. */
export function writeAnswer(out: ByteWriter, { sender, body }: Envelope<PeerAnswer>): void {
  if (body.kind !== 'decided') return out.utf8(JSON.stringify(answerWire(encodeSender(sender), body)));
  out.byte(DECIDED);
  writeSender(out, sender);
  writeResults(out, body.results);
  writeMembers(out, body.members);
}

export function encodeAnswer(answer: Envelope<PeerAnswer>): Buffer {
  const out = new ByteWriter();
  writeAnswer(out, answer);
  return out.bytes.subarray(0, out.length);
}

function answerWire(sender: unknown[], body: Exclude<PeerAnswer, { kind: 'decided' }>): unknown[] {
  switch (body.kind) {
    case 'leased':
      return ['l', sender, body.grants.map(encodeGrant)];
    case 'members':
      return ['m', sender, body.members.map(encodeMember)];
    case 'kept':
      return ['k', sender];
    case 'handed':
      return ['h', sender, body.total, Number(body.more), ...encodeClients(body.clients)];
    case 'not-yet':
      return ['n', sender, body.members.map(encodeMember)];
    case 'acted':
      return ['c', sender, Number(body.acted)];
    case 'described':
      return ['s', sender, ...encodeDescription(body.client)];
    case 'forgotten':
      return ['f', sender];
    case 'settled':
      return ['t', sender, encodeSettled(body.settled)];
    case 'top':
      return ['q', sender, ...encodeTopPart(body)];
    case 'report':
      return ['r', sender, encodeReport(body.report)];
    case 'use':
      return ['e', sender, body.use.asks, body.use.lastMs ?? null];
    case 'factors':
      return ['x', sender, body.factors];
    case 'policies':
      return ['p', sender, ...encodePolicies(body)];
    case 'policy-part':
      return ['g', sender, body.entries === null ? null : encodeEntries(body.entries), Number(body.more)];
    case 'policies-written':
      return ['w', sender, encodeWritten(body.written)];
  }
}

/** @throws MalformedMessage for bytes that `writeAnswer` does not write for any valid answer */
export function decodeAnswer(bytes: Buffer): Envelope<PeerAnswer> {
  if (bytes[0] !== LIST) return decodeBinary(bytes, readBinaryAnswer);
  refuseLong(bytes, LONG_ANSWERS);
  if (bytes.length > MAX_HANDED_BYTES && bytes.indexOf(HANDED) === 0)
    throw malformed('clients', `at most ${MAX_HANDED_BYTES} bytes of them`);
  const wire = readList(parseWire(bytes), 2, 6, 'answer');
  return { sender: readSender(wire[1]), body: readAnswer(wire) };
}

/** Refuses JSON unread that is longer than any that a node writes. */
function refuseLong(bytes: Buffer, long: readonly string[]): void {
  if (bytes.length <= MAX_SHORT_BYTES) return;
  if (!long.includes(bytes.toString('latin1', 0, HANDED.length)))
    throw malformed('JSON', `at most ${MAX_SHORT_BYTES} bytes for its kind`);
}

function readBinaryAnswer(kind: number, from: ByteReader): PeerAnswer {
  if (kind !== DECIDED) throw malformed('kind of answer', 'a known one');
  return { kind: 'decided', results: readResults(from), members: readBinaryMembers(from) };
}

function readAnswer(wire: readonly unknown[]): PeerAnswer {
  switch (wire[0]) {
    case 'l':
      return { kind: 'leased', grants: readGrants(sized(wire, 3)[2]) };
    case 'm':
      return { kind: 'members', members: readMembers(sized(wire, 3)[2]) };
    case 'k':
      sized(wire, 2);
      return { kind: 'kept' };
    case 'h':
      return {
        kind: 'handed',
        total: readWhole(wire[2], 0, 2 ** 52, 'total'),
        more: readFlag(wire[3], 'more'),
        clients: readClients(wire[4], sized(wire, 6)[5]),
      };
    case 'n':
      return { kind: 'not-yet', members: readMembers(sized(wire, 3)[2]) };
    case 'c':
      return { kind: 'acted', acted: readFlag(sized(wire, 3)[2], 'acted') };
    case 's':
      return { kind: 'described', client: readDescription(wire[2], wire[3], sized(wire, 5)[4]) };
    case 'f':
      sized(wire, 2);
      return { kind: 'forgotten' };
    case 't':
      return { kind: 'settled', settled: readSettled(sized(wire, 3)[2]) };
    case 'q':
      return { kind: 'top', ...readTopPart(wire[2], sized(wire, 4)[3]) };
    case 'r':
      return { kind: 'report', report: readReport(sized(wire, 3)[2]) };
    case 'e':
      return { kind: 'use', use: readUse(wire[2], sized(wire, 4)[3]) };
    case 'x':
      return { kind: 'factors', factors: readFactors(sized(wire, 3)[2]) };
    case 'p':
      return readPolicies(sized(wire, 6), 2);
    case 'g':
      return {
        kind: 'policy-part',
        entries: sized(wire, 4)[2] === null ? null : readEntries(wire[2]),
        more: readFlag(wire[3], 'more'),
      };
    case 'w':
      return { kind: 'policies-written', written: readWritten(sized(wire, 3)[2]) };
    default:
      throw malformed('kind of answer', 'l, m, k, h, n, c, s, f, t, q, r, e, x, p, g or w');
  }
}

function sized(wire: readonly unknown[], length: number): readonly unknown[] {
  return readList(wire, length, length, 'fields');
}
