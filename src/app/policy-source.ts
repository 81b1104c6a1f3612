import { hash } from 'node:crypto';
import type { ClusterNode } from '../node/node.js';
import type { Log } from '../lib/system.js';
import type { Overwritten } from '../policy/active-policies.js';
import { PolicyWriter, type PolicyChange } from '../node/policies/policy-writer.js';
import { fileKey, MAX_DOCUMENT_BYTES, type Changes, type PolicyDocument } from '../policy/policy-document.js';
import type { EntryValue } from '../policy/policy-entry.js';
import type { Mistake } from '../lib/mistake.js';
import type { PolicyFileText } from '../policy/policy-file.js';
import type { Actor, Audit, Change } from '../server/edge/audit.js';
import { parseJson } from '../server/validate/json.js';
import { SettingsError } from './settings/settings.js';
import { readPolicyFile, readPolicyObject, WARNING, watchPolicyFile } from '../store/policy-file.js';
import { PolicyStateFile, readPolicyState, type PolicyState } from '../store/policy-state.js';

type FileEntries = ReadonlyMap<string, EntryValue>;

/** The policy file, and the file that keeps the policies for a restart. */
export interface PolicySource {
  /** The policies that this node had when it last ran. */
  readonly state: Pick<PolicyState, 'document' | 'registry'> | undefined;
  /** Call this before the node joins. @returns a writer, which works once the node has joined */
  connect(node: ClusterNode): PolicyWriter<Actor>;
  /** Call this once the node has joined. Applies the changes in the policy file, and watches the file. */
  begin(): Promise<void>;
  /** Ends the watch. */
  close(): void;
  /** Resolves once the state is saved. */
  saved(): Promise<void>;
}

/**
 * @param setting name of the setting for errors
 * @param given the path of a policy file, or its contents
 * @param statePath the file that keeps the policies for a restart; `undefined`: they are not kept
 * @param maxBytes bound of the policies as JSON; a node warns if those of the ring are larger
 * @throws SettingsError if a file cannot be read or is not valid
 */
export async function openPolicySource(
  setting: string,
  given: string | PolicyFileText | undefined,
  statePath: string | undefined,
  { log, audit, maxBytes = MAX_DOCUMENT_BYTES }: { log: Log; audit: Audit; maxBytes?: number },
): Promise<PolicySource> {
  const path = typeof given === 'string' ? given : 'the object given';
  const file =
    typeof given === 'string'
      ? await readPolicyFile(given, parseJson, maxBytes)
      : given && readPolicyObject(given, maxBytes);
  if (file?.kind === 'unreadable') throw new SettingsError(`${setting}: ${path} cannot be read: ${file.reason}`);
  if (file?.kind === 'invalid') {
    const advice = typeof given === 'string' ? `; correct it, or set ${setting} to another file or to none` : '';
    throw new SettingsError(`${setting}: ${path} is not valid: ${listOf(file.mistakes)}${advice}`);
  }
  for (const detail of file?.warnings ?? []) log.warn({ path, detail }, WARNING);
  const state = statePath === undefined ? undefined : await readState(statePath);
  const kept = statePath === undefined ? undefined : new PolicyStateFile(statePath, log);
  /** Entries of the policy file when they were last applied. */
  let fromFile: FileEntries | undefined = state?.file;
  let stopWatching: (() => void) | undefined;
  const saved = (): Promise<void> => kept?.saved() ?? Promise.resolve();

  let connected: { node: ClusterNode; writer: PolicyWriter<Actor> } | undefined;

  /** The ring may have more policies than this node plans with: the other nodes may have more memory. */
  function warnOfSize({ bytes, version }: PolicyDocument): void {
    if (bytes <= maxBytes) return;
    const advice = 'the policies are larger than this node plans with; give it more memory, or remove some';
    log.warn({ version, bytes, maxBytes }, advice);
  }

  function save(): void {
    const document = connected!.node.activePolicies.document();
    const registry = connected!.node.activePolicies.registry();
    kept?.save({ document, registry, file: fromFile });
  }

  /** @returns whether the entries are applied; otherwise they are to be applied again */
  async function apply(entries: FileEntries): Promise<boolean> {
    const { node, writer } = connected!;
    const changes = changesOf(node.activePolicies.document(), fromFile, entries);
    if (changes.size > 0) {
      const written = await writer.write(changes, { file: path });
      if (written.kind !== 'written') {
        const { kind: outcome, ...more } = written;
        log.warn({ path, outcome, ...more }, 'the policy file could not be applied');
      }
      if (written.kind === 'unavailable' || written.kind === 'no-registry') return false;
    }
    fromFile = entries;
    save();
    return true;
  }

  return {
    state,
    connect(node) {
      const record = ({ version, ...change }: PolicyChange<Actor>): void =>
        audit({ ...change, what: 'policies changed', target: `version ${version}` });
      const { policies, activePolicies } = node;
      const writer = new PolicyWriter({ policies, activePolicies }, { record, saved });
      connected = { node, writer };
      activePolicies.onOverwritten((overwritten) => audit(auditOf(overwritten)));
      return writer;
    },
    async begin() {
      const { activePolicies } = connected!.node;
      warnOfSize(activePolicies.document());
      activePolicies.onChange(warnOfSize);
      activePolicies.onChange(save);
      if (file === undefined) return save();
      while (!(await apply(file.entries)));
      if (typeof given === 'string')
        stopWatching = watchPolicyFile({ path, parse: parseJson, log, maxBytes }, file.digest, apply);
    },
    close: () => stopWatching?.(),
    saved,
  };
}

/** Mistakes that one error message lists. */
const MAX_LISTED = 5;

function listOf(mistakes: readonly Mistake[]): string {
  const listed = mistakes.slice(0, MAX_LISTED).map(({ detail }) => detail);
  const more = mistakes.length - listed.length;
  return `${listed.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}

/** @throws SettingsError if there is a state file that cannot be read */
async function readState(path: string): Promise<PolicyState | undefined> {
  try {
    return await readPolicyState(path);
  } catch (cause) {
    const problem = `TOKENRING_POLICIES_STATE: ${path} is not valid: ${(cause as Error).message}`;
    const advice = 'restore it, or delete it to start with the policy file and the policies of the other nodes';
    throw new SettingsError(`${problem}; ${advice}`, { cause });
  }
}

function auditOf({ keys, before, after }: Overwritten): Change {
  const valuesIn = ({ entries }: PolicyDocument) =>
    Object.fromEntries(keys.map((key) => [key, entries.get(key)?.value ?? null]));
  const nodes = [...new Set(keys.flatMap((key) => after.entries.get(key)?.writer ?? []))];
  return {
    who: { nodes },
    what: 'policies overwritten',
    target: `version ${after.version}`,
    before: valuesIn(before),
    after: valuesIn(after),
  };
}

/**
 * The changes that a policy file makes: its differences from the last entries that were applied here. If those are not
 * known, the file is new unless the document names it as the last one applied. A new file replaces policies of the same
 * names and keeps others.
 */
function changesOf(document: PolicyDocument, last: FileEntries | undefined, now: FileEntries): Changes {
  const digest = digestOf(now);
  const changes = new Map<string, EntryValue | null>();
  if (last === undefined && document.entries.get(fileKey())?.value === digest) return changes;
  for (const [key, value] of now) {
    if (JSON.stringify(last?.get(key)) !== JSON.stringify(value)) changes.set(key, value);
  }
  for (const key of last?.keys() ?? []) if (!now.has(key)) changes.set(key, null);
  if (changes.size > 0) changes.set(fileKey(), digest);
  return changes;
}

function digestOf(entries: FileEntries): string {
  const lines = [...entries].map((entry) => JSON.stringify(entry));
  return hash('sha256', lines.sort().join('\n')).slice(0, 16);
}
