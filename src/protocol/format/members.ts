import { ByteReader, malformed } from '../../lib/byte-reader.js';
import { ByteWriter } from '../../lib/byte-writer.js';
import { isOrigin } from '../../limits/origin.js';
import type { DeclaredState, MemberRecord, Sender } from '../messages.js';
import { list, mapped, object, text, whole, type Codec } from './codec.js';
import { nodeId } from './node-id.js';

const STATES: readonly DeclaredState[] = ['joining', 'active', 'leaving', 'left'];
const MAX_MEMBERS = 2_048;
const MAX_URL_BYTES = 512;
/** Bound of counters. It is above every counter that starts at 1, and adding 1 to it is still exact. */
export const MAX_COUNT = 2 ** 52;

/** A hash or a version. Terminals show it, so it may contain only printable ASCII. */
export function word(what: string): Codec<string> {
  return mapped(
    text(0, 128, what),
    (value) => value,
    (value) => {
      if (/[^ -~]/.test(value)) throw malformed(what, 'printable ASCII');
      return value;
    },
  );
}

/** Callers connect to this URL to ask the owner directly, so it must be an origin. */
const url = mapped<string, string>(
  text(0, MAX_URL_BYTES, 'url'),
  (value) => value,
  (value) => {
    if (value !== '' && !(isOrigin(value) && URL.canParse(value))) throw malformed('url', 'http://host:port');
    return value;
  },
);

/** A state and whether the member is suspected, as one number from 0 to 7. */
const state = mapped<Pick<MemberRecord, 'state' | 'suspected'>, number>(
  whole(0, 2 * STATES.length - 1, 'state'),
  ({ state, suspected }) => STATES.indexOf(state) + (suspected ? STATES.length : 0),
  (number) => ({ state: STATES[number % STATES.length]!, suspected: number >= STATES.length }),
);
const id = nodeId('member');
const version = word('version');
const count = whole(0, MAX_COUNT, 'count of a member');

/** A member without the fields that change with every message. */
type Member = Omit<MemberRecord, 'beat' | 'silentMs'>;

const memberWithoutBeat: Codec<Member> = {
  write(out, value) {
    id.write(out, value.id);
    out.whole(value.incarnation);
    state.write(out, value);
    out.text(value.version);
    out.text(value.url);
  },
  read(from) {
    const memberId = id.read(from);
    const incarnation = count.read(from);
    const { state: declared, suspected } = state.read(from);
    return { id: memberId, incarnation, state: declared, suspected, version: version.read(from), url: url.read(from) };
  },
};

export const member: Codec<MemberRecord> = {
  write(out, value) {
    memberWithoutBeat.write(out, value);
    out.whole(value.beat);
    out.whole(value.silentMs);
  },
  read: (from) => withBeat(memberWithoutBeat.read(from), from),
};

function withBeat({ id, incarnation, state, version, url, suspected }: Member, from: ByteReader): MemberRecord {
  const beat = count.read(from);
  const silentMs = count.read(from);
  return { id, incarnation, state, beat, version, url, silentMs, suspected };
}

export const members = list(member, MAX_MEMBERS, 'members');

export function nodeIds(what: string): Codec<readonly string[]> {
  return list(nodeId(what), MAX_MEMBERS, what);
}

/** A sender without the fields that change with every message. */
type Description = Omit<Sender, 'from'> & { readonly from: Member };

const description = object<Description>({ from: memberWithoutBeat, view: word('view'), policies: word('policies') });
/** Bound of the size of a description, above the sum of the bounds of its fields. */
const MAX_DESCRIPTION_BYTES = 8 * 1024;

/** The bytes of descriptions. A node sends the same one in thousands of messages. */
const written = new WeakMap<Sender, Buffer>();

/** Recently read descriptions, by a digest of their bytes. A node receives the same few again and again. */
const RECENT = 64;
const recent: ({ readonly bytes: Buffer; readonly description: Description } | undefined)[] = [];

/** The number of bytes of the sender's description, the description, beat, and `silentMs`. */
export const sender: Codec<Sender> = {
  write(out, value) {
    let bytes = written.get(value);
    if (bytes === undefined) {
      const described = new ByteWriter(0, 256);
      description.write(described, value);
      written.set(value, (bytes = described.copy()));
    }
    out.whole(bytes.length);
    out.append(bytes);
    out.whole(value.from.beat);
    out.whole(value.from.silentMs);
  },
  read(from) {
    const start = from.skip(from.whole(0, MAX_DESCRIPTION_BYTES, 'bytes of a sender'), 'sender');
    const { from: described, view, policies } = readDescription(from.bytes, start, from.at);
    return { from: withBeat(described, from), view, policies };
  },
};

function readDescription(bytes: Buffer, start: number, end: number): Description {
  let digest = 0;
  for (let i = start; i < end; i += 1) digest = (Math.imul(digest, 31) + bytes[i]!) | 0;
  const slot = (digest >>> 0) % RECENT;
  const known = recent[slot];
  if (known !== undefined && isAt(known.bytes, bytes, start, end)) return known.description;
  const own = Buffer.from(bytes.subarray(start, end));
  const reader = new ByteReader(own);
  const read = description.read(reader);
  reader.finish();
  recent[slot] = { bytes: own, description: read };
  return read;
}

/** Whether `sought` stands in `bytes`, from `start` to before `end`. For so few bytes, a native call takes longer. */
function isAt(sought: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (sought.length !== end - start) return false;
  for (let i = start; i < end; i += 1) if (sought[i - start] !== bytes[i]) return false;
  return true;
}
