import type { NodeId } from '../limits/ring/ring.js';
import type { MemberRecord } from '../protocol/messages.js';
import { changeRecord } from './membership.js';

/** Beats by which a duplicate is ahead of the member whose id it has. The member counts ten a second. */
const AHEAD = 2 ** 40;

/**
 * Makes a record that no process of this id has: it still joins in an incarnation that is active, and is beats ahead.
 * So it changes nothing that nodes know of the member, and shows that a second process has its id.
 */
export function duplicateOf(member: MemberRecord): MemberRecord {
  return changeRecord(member, { state: 'joining', beat: member.beat + AHEAD });
}

/** Whether a record comes from a second process with the id of this member. */
export function isDuplicate(record: MemberRecord, member: MemberRecord): boolean {
  return (
    record.id === member.id &&
    record.incarnation === member.incarnation &&
    record.state === 'joining' &&
    member.state !== 'joining' &&
    record.beat > member.beat
  );
}

/** Tells a member of a second process with its id, which other nodes can reach under its address, and it cannot. */
export class DuplicateIds {
  private readonly records = new Map<NodeId, MemberRecord>();

  /** Takes the record of the sender of a message. @param known the record of its id on this node */
  received(from: MemberRecord, known: MemberRecord | undefined): void {
    // Only a member has one, so there are no more of them than members.
    if (known !== undefined && isDuplicate(from, known)) this.records.set(from.id, from);
  }

  /** Returns the record of the duplicate of which a member has yet to hear, once. */
  takeFor(member: MemberRecord): readonly MemberRecord[] {
    const duplicate = this.records.get(member.id);
    if (duplicate === undefined || member.state === 'joining') return [];
    this.records.delete(member.id);
    return isDuplicate(duplicate, member) ? [duplicate] : [];
  }
}
