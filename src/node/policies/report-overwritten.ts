import type { Log } from '../../lib/system.js';
import type { ActivePolicies, Overwritten } from '../../policy/active-policies.js';

/** Keys that one log line names; the audit log names all. */
const MAX_NAMED = 20;

/** Warns that policies of this node lost to those of other nodes, if any did, and hands them on to the audit log. */
export function reportOverwritten(
  { log, activePolicies }: { readonly log: Log; readonly activePolicies: ActivePolicies },
  overwritten: Overwritten,
): void {
  const { keys, before, after } = overwritten;
  if (keys.length === 0) return;
  const fields = { count: keys.length, overwritten: keys.slice(0, MAX_NAMED) };
  log.warn(
    { ...fields, version: after.version, before: before.version },
    'other nodes have overwritten policies of this node',
  );
  activePolicies.noteOverwritten(overwritten);
}
