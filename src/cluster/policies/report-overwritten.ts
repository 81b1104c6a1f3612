import { overwrittenKeys } from '../../core/policy/policy-document.js';
import type { PolicyDocument } from '../../core/policy/policy-document.js';
import type { Log } from '../ports.js';
import type { ActivePolicies } from './active-policies.js';

/** Keys that one log line names; the audit log names all. */
const MAX_NAMED = 20;

/** Warns that the policies of this node, `before`, lost to those of other nodes, and hands them on to the audit log. */
export function reportOverwritten(
  { log, activePolicies }: { readonly log: Log; readonly activePolicies: ActivePolicies },
  before: PolicyDocument,
  after: PolicyDocument,
): void {
  const keys = overwrittenKeys(before, after);
  if (keys.length === 0) return;
  const fields = { count: keys.length, overwritten: keys.slice(0, MAX_NAMED) };
  log.warn(
    { ...fields, version: after.version, before: before.version },
    'other nodes have overwritten policies of this node',
  );
  activePolicies.noteOverwritten({ keys, before, after });
}
