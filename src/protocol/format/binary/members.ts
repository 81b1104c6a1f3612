import type { MemberRecord, Sender } from '../../messages.js';
import type { NodeId } from '../../../limits/ring/ring.js';
import { MAX_COUNT, MAX_MEMBERS, MAX_WORD_BYTES, encodeState, readState, readUrl, readWord } from '../members.js';
import { malformed } from '../../../lib/byte-reader.js';
import { readNodeId } from '../wire.js';
import { ByteReader } from '../../../lib/byte-reader.js';
import { ByteWriter } from '../../../lib/byte-writer.js';

/** A member without the fields that change with every message. */
type Member = Omit<MemberRecord, 'beat' | 'silentMs'>;
type Description = Omit<Sender, 'from'> & { readonly from: Member };

const MAX_NODE_ID_BYTES = 260;
const MAX_URL_BYTES = 512;

/** Bound of the size of a description, above the sum of the bounds of its fields. */
const MAX_DESCRIPTION_BYTES = 8 * 1024;

/** The bytes of descriptions. A node sends the same one in thousands of messages. */
const written = new WeakMap<Sender, Buffer>();
const scratch = new ByteWriter();

/** Recently read descriptions, by a digest of their bytes. A node receives the same few again and again. */
const RECENT = 64;
const recent: ({ readonly bytes: Buffer; readonly description: Description } | undefined)[] = [];

/** Writes a sender: the number of bytes of its description, the description, beat, and `silentMs`. */
export function writeSender(out: ByteWriter, sender: Sender): void {
  let bytes = written.get(sender);
  if (bytes === undefined) {
    scratch.clear();
    writeDescription(scratch, sender);
    bytes = Buffer.from(scratch.bytes.subarray(0, scratch.length));
    written.set(sender, bytes);
  }
  out.whole(bytes.length);
  out.append(bytes);
  out.whole(sender.from.beat);
  out.whole(sender.from.silentMs);
}

function writeDescription(out: ByteWriter, { from, view, policies }: Sender): void {
  writeMember(out, from);
  out.text(view);
  out.text(policies);
}

function writeMember(out: ByteWriter, member: Member): void {
  const { id, incarnation, version, url } = member;
  out.text(id);
  out.whole(incarnation);
  out.byte(encodeState(member));
  out.text(version);
  out.text(url);
}

export function writeMembers(out: ByteWriter, members: readonly MemberRecord[]): void {
  out.whole(members.length);
  for (const member of members) {
    writeMember(out, member);
    out.whole(member.beat);
    out.whole(member.silentMs);
  }
}

/** @throws MalformedMessage */
export function readSender(from: ByteReader): Sender {
  const length = from.whole(0, MAX_DESCRIPTION_BYTES, 'bytes of a sender');
  const { at: start, bytes } = from;
  const end = start + length;
  if (end > bytes.length) throw malformed('sender', `${length} bytes`);
  const { from: member, view, policies } = readCached(bytes, start, end);
  from.at = end;
  const beat = from.whole(0, MAX_COUNT, 'beat');
  const silentMs = from.whole(0, MAX_COUNT, 'silence');
  const { id, incarnation, state, doubted, version, url } = member;
  return { from: { id, incarnation, state, doubted, beat, version, url, silentMs }, view, policies };
}

function readCached(bytes: Buffer, start: number, end: number): Description {
  let digest = 0;
  for (let i = start; i < end; i += 1) digest = (Math.imul(digest, 31) + bytes[i]!) | 0;
  const slot = (digest >>> 0) % RECENT;
  const known = recent[slot];
  if (known !== undefined && isAt(known.bytes, bytes, start, end)) return known.description;
  const own = Buffer.from(bytes.subarray(start, end));
  const reader = new ByteReader(own);
  const description = readDescription(reader);
  reader.finish();
  recent[slot] = { bytes: own, description };
  return description;
}

/** Whether `sought` stands in `bytes`, from `start` to before `end`. For so few bytes, a native call takes longer. */
function isAt(sought: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (sought.length !== end - start) return false;
  for (let i = start; i < end; i += 1) if (sought[i - start] !== bytes[i]) return false;
  return true;
}

function readDescription(from: ByteReader): Description {
  const member = readMember(from);
  const view = readWord(from.text(0, MAX_WORD_BYTES, 'view'), 'view');
  const policies = readWord(from.text(0, MAX_WORD_BYTES, 'digest of policies'), 'digest of policies');
  return { from: member, view, policies };
}

function readMember(from: ByteReader): Member {
  const id = readId(from, 'member');
  const incarnation = from.whole(0, MAX_COUNT, 'incarnation');
  const { state, doubted } = readState(from.byte('state'));
  const version = readWord(from.text(0, MAX_WORD_BYTES, 'version'), 'version');
  const url = readUrl(from.text(0, MAX_URL_BYTES, 'url'));
  return { id, incarnation, state, doubted, version, url };
}

/** @throws MalformedMessage */
export function readMembers(from: ByteReader): readonly MemberRecord[] {
  const count = from.whole(0, MAX_MEMBERS, 'number of members');
  const members: MemberRecord[] = [];
  while (members.length < count) {
    const { id, incarnation, state, doubted, version, url } = readMember(from);
    const beat = from.whole(0, MAX_COUNT, 'beat');
    const silentMs = from.whole(0, MAX_COUNT, 'silence');
    members.push({ id, incarnation, state, beat, version, url, silentMs, doubted });
  }
  return members;
}

export function writeIds(out: ByteWriter, ids: readonly NodeId[]): void {
  out.whole(ids.length);
  for (const id of ids) out.text(id);
}

/** @throws MalformedMessage */
export function readIds(from: ByteReader, what: string): readonly NodeId[] {
  const count = from.whole(0, MAX_MEMBERS, what);
  const ids: NodeId[] = [];
  while (ids.length < count) ids.push(readId(from, what));
  return ids;
}

function readId(from: ByteReader, what: string): NodeId {
  return readNodeId(from.text(1, MAX_NODE_ID_BYTES, what), what);
}
