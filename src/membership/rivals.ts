import type { NodeId } from '../limits/ring/ring.js';
import type { MemberRecord } from '../protocol/messages.js';
import { changeRecord } from './membership.js';

/** Beats by which a rival is ahead of the member whose id it has. The member counts ten a second. */
const AHEAD = 2 ** 40;

/**
 * Makes a record that no process of this id has: it still joins in an incarnation that is active, and is beats ahead.
 * So it changes nothing that nodes know of the member, and shows that a second process has its id.
 */
export function rivalOf(member: MemberRecord): MemberRecord {
  return changeRecord(member, { state: 'joining', beat: member.beat + AHEAD });
}

function isRival(record: MemberRecord, member: MemberRecord): boolean {
  return (
    record.id === member.id &&
    record.incarnation === member.incarnation &&
    record.state === 'joining' &&
    member.state !== 'joining' &&
    record.beat > member.beat
  );
}

/** Tells a member of another process with its id, which other nodes can reach under its address, and it cannot. */
interface Rivals {
  /** Takes the record of the sender of a message. @param known the record of its id on this node */
  received(from: MemberRecord, known: MemberRecord | undefined): void;
  /** Returns the record of the rival that a member has yet to hear of, once. */
  takeFor(member: MemberRecord): readonly MemberRecord[];
  /** Whether these records name a rival of this node. */
  isNamed(records: readonly MemberRecord[], self: MemberRecord): boolean;
}

export function createRivals(): Rivals {
  const rivals = new Map<NodeId, MemberRecord>();
  return {
    received(from, known) {
      // Only a member has one, so there are no more of them than members.
      if (known !== undefined && isRival(from, known)) rivals.set(from.id, from);
    },
    takeFor(member) {
      const rival = rivals.get(member.id);
      if (rival === undefined || member.state === 'joining') return [];
      rivals.delete(member.id);
      return isRival(rival, member) ? [rival] : [];
    },
    isNamed: (records, self) => records.some((record) => isRival(record, self)),
  };
}
