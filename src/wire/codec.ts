import type { Envelope, PeerAnswer, PeerMessage } from '../cluster/messages.js';
import type { NodeId } from '../core/ring.js';
import { MAX_COST } from '../core/rule.js';
import {
  malformed,
  mapList,
  parseWire,
  readClientId,
  readFlag,
  readList,
  readNodeId,
  readText,
  readWhole,
} from './wire.js';
import { encodeChecks, readChecks, readReservationId } from './checks.js';
import { encodeClients, encodeDescription, readClients, readDescription } from './clients.js';
import { encodeGrant, encodeReturn, encodeWishes, readGrants, readReturns, readWishes } from './leases.js';
import { encodeMember, encodeSender, MAX_MEMBERS, readMember, readMembers, readSender, readWord } from './members.js';
import {
  encodeEntries,
  encodeWritten,
  MAX_WRITE_ID_BYTES,
  readChanges,
  readEntries,
  readFactors,
  readPart,
  readPolicyName,
  readTags,
  readWritten,
} from './policies.js';
import { encodeResults, readResults } from './results.js';
import { encodeSettled, readSettled } from './settled.js';

/**
 * The wire form: JSON, so that a dump can be read, but lists instead of objects and one letter for a kind, as it is made
 * and read on every forwarded decision: `["d",[sender],"batch id",[refused],[rules],[checks]]`.
 * Its version is in the path of the request. Reading checks every type and range, so inside all may be trusted.
 */
export const WIRE_VERSION = 1;

const MAX_BATCH_ID_BYTES = 512;
const MAX_CHUNK = 2 ** 52;

export function encodeMessage({ sender, body }: Envelope<PeerMessage>): string {
  return JSON.stringify(messageWire(encodeSender(sender), body));
}

function messageWire(sender: unknown[], body: PeerMessage): unknown[] {
  switch (body.kind) {
    case 'decide':
      return ['d', sender, body.batchId, body.refused, ...encodeChecks(body.checks)];
    case 'heartbeat':
      return ['h', sender, body.members.map(encodeMember)];
    case 'lease':
      return ['l', sender, ...encodeWishes(body.wishes), body.returns.map(encodeReturn)];
    case 'replicate':
      return ['r', sender, ...encodeClients(body.clients)];
    case 'handoff':
      return ['o', sender, body.chunk, body.gone];
    case 'admit':
      return ['a', sender, encodeMember(body.record), body.ring, body.members.map(encodeMember)];
    case 'describe':
      return ['s', sender, body.clientId];
    case 'forget':
      return ['f', sender, body.clientId];
    case 'settle':
      return ['t', sender, body.clientId, body.reservation, body.cost];
    case 'load':
      return ['y', sender, body.name, body.load];
    case 'factors':
      return ['x', sender, body.factors];
    case 'policies':
      return ['p', sender, ...encodeEntries(body)];
    case 'write-policies':
      return ['w', sender, body.writeId, body.changes, body.ifMatch ?? null];
  }
}

/** @throws MalformedMessage for anything that `encodeMessage` does not make of a valid message */
export function decodeMessage(bytes: Buffer): Envelope<PeerMessage> {
  const wire = readList(parseWire(bytes), 2, 6, 'message');
  return { sender: readSender(wire[1]), body: readMessage(wire) };
}

function readMessage(wire: readonly unknown[]): PeerMessage {
  switch (wire[0]) {
    case 'd':
      return {
        kind: 'decide',
        batchId: readText(wire[2], 1, MAX_BATCH_ID_BYTES, 'batch id'),
        refused: readIds(wire[3], 'refused'),
        checks: readChecks(wire[4], sized(wire, 6)[5]),
      };
    case 'h':
      return { kind: 'heartbeat', members: readMembers(sized(wire, 3)[2]) };
    case 'l':
      return { kind: 'lease', wishes: readWishes(wire[2], wire[3]), returns: readReturns(sized(wire, 5)[4]) };
    case 'r':
      return { kind: 'replicate', clients: readClients(wire[2], sized(wire, 4)[3]) };
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
    case 'y':
      return { kind: 'load', name: readPolicyName(sized(wire, 4)[2]), load: readPart(wire[3], 'load') };
    case 'x':
      return { kind: 'factors', factors: readFactors(sized(wire, 3)[2]) };
    case 'p':
      return readEntries(sized(wire, 6), 2);
    case 'w':
      return {
        kind: 'write-policies',
        writeId: readText(wire[2], 1, MAX_WRITE_ID_BYTES, 'write id'),
        changes: readChanges(wire[3]),
        ifMatch: readTags(sized(wire, 5)[4]),
      };
    default:
      throw malformed('kind of message', 'd, h, l, r, o, a, s, f, t, y, x, p or w');
  }
}

function readIds(value: unknown, what: string): readonly NodeId[] {
  return mapList(value, MAX_MEMBERS, what, (id) => readNodeId(id, what));
}

export function encodeAnswer({ sender, body }: Envelope<PeerAnswer>): string {
  return JSON.stringify(answerWire(encodeSender(sender), body));
}

function answerWire(sender: unknown[], body: PeerAnswer): unknown[] {
  switch (body.kind) {
    case 'decided':
      return ['d', sender, encodeResults(body.results), body.members.map(encodeMember)];
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
    case 'described':
      return ['s', sender, ...encodeDescription(body.client)];
    case 'forgotten':
      return ['f', sender];
    case 'settled':
      return ['t', sender, encodeSettled(body.settled)];
    case 'factors':
      return ['x', sender, body.factors];
    case 'policies':
      return ['p', sender, ...encodeEntries(body)];
    case 'policies-written':
      return ['w', sender, encodeWritten(body.written)];
  }
}

/** @throws MalformedMessage for anything that `encodeAnswer` does not make of a valid answer */
export function decodeAnswer(bytes: Buffer): Envelope<PeerAnswer> {
  const wire = readList(parseWire(bytes), 2, 6, 'answer');
  return { sender: readSender(wire[1]), body: readAnswer(wire) };
}

function readAnswer(wire: readonly unknown[]): PeerAnswer {
  switch (wire[0]) {
    case 'd':
      return { kind: 'decided', results: readResults(wire[2]), members: readMembers(sized(wire, 4)[3]) };
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
    case 's':
      return { kind: 'described', client: readDescription(wire[2], wire[3], sized(wire, 5)[4]) };
    case 'f':
      sized(wire, 2);
      return { kind: 'forgotten' };
    case 't':
      return { kind: 'settled', settled: readSettled(sized(wire, 3)[2]) };
    case 'x':
      return { kind: 'factors', factors: readFactors(sized(wire, 3)[2]) };
    case 'p':
      return readEntries(sized(wire, 6), 2);
    case 'w':
      return { kind: 'policies-written', written: readWritten(sized(wire, 3)[2]) };
    default:
      throw malformed('kind of answer', 'd, l, m, k, h, n, s, f, t, x, p or w');
  }
}

function sized(wire: readonly unknown[], length: number): readonly unknown[] {
  return readList(wire, length, length, 'fields');
}
