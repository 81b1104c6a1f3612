import type { DeclaredState, MemberRecord, Sender } from '../messages.js';
import { isOrigin } from '../../limits/origin.js';
import { malformed } from '../../lib/byte-reader.js';
import { mapList, readList, readNodeId, readText, readWhole } from './wire.js';

const STATES: readonly DeclaredState[] = ['joining', 'active', 'leaving', 'left'];
export const MAX_MEMBERS = 2_048;
/** Largest number of bytes of a version, and of the hash of a member list or a ring. */
export const MAX_WORD_BYTES = 128;
/** Bound of counters. It is above every counter that starts at 1, and adding 1 to it is still exact. */
export const MAX_COUNT = 2 ** 52;

/** Encodes a state and whether the member is doubted as one number from 0 to 7. */
export function encodeState({ state, doubted }: Pick<MemberRecord, 'state' | 'doubted'>): number {
  return STATES.indexOf(state) + (doubted ? STATES.length : 0);
}

export function readState(value: unknown): Pick<MemberRecord, 'state' | 'doubted'> {
  const number = typeof value === 'number' ? value : NaN;
  const doubted = number >= STATES.length;
  const state = STATES[doubted ? number - STATES.length : number];
  if (state === undefined) throw malformed('state', '0 to 7');
  return { state, doubted };
}

/** Encodes a member as `[id, incarnation, state, beat, version, silentMs, url]`. */
export function encodeMember(member: MemberRecord): unknown[] {
  const { id, incarnation, beat, version, silentMs, url } = member;
  return [id, incarnation, encodeState(member), beat, version, silentMs, url];
}

export function readMember(value: unknown): MemberRecord {
  return memberOf(readList(value, 7, 7, 'member'));
}

function memberOf(wire: readonly unknown[]): MemberRecord {
  const { state, doubted } = readState(wire[2]);
  return {
    id: readNodeId(wire[0], 'member'),
    incarnation: readWhole(wire[1], 0, MAX_COUNT, 'incarnation'),
    state,
    beat: readWhole(wire[3], 0, MAX_COUNT, 'beat'),
    version: readWord(wire[4], 'version'),
    url: readUrl(wire[6]),
    silentMs: readWhole(wire[5], 0, MAX_COUNT, 'silence'),
    doubted,
  };
}

/** Callers connect to this URL to ask the owner directly, so it must be an origin. */
export function readUrl(value: unknown): string {
  if (value === '') return value;
  if (typeof value !== 'string' || !isOrigin(value) || !URL.canParse(value)) throw malformed('url', 'http://host:port');
  return value;
}

export function readMembers(value: unknown): readonly MemberRecord[] {
  return mapList(value, MAX_MEMBERS, 'members', readMember);
}

/** Encodes a member record, then the hashes of its member list and of its policies. */
export function encodeSender({ from, view, policies }: Sender): unknown[] {
  return [...encodeMember(from), view, policies];
}

export function readSender(value: unknown): Sender {
  const wire = readList(value, 9, 9, 'sender');
  return { from: memberOf(wire), view: readWord(wire[7], 'view'), policies: readWord(wire[8], 'digest of policies') };
}

/** Reads a hash or a version. Terminals show it, so it may contain only printable ASCII. */
export function readWord(value: unknown, what: string): string {
  const word = readText(value, 0, MAX_WORD_BYTES, what);
  if (/[^ -~]/.test(word)) throw malformed(what, 'printable ASCII');
  return word;
}
