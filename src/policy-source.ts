import { hash } from 'node:crypto';
import type { ClusterNode } from './cluster/node.js';
import type { Log } from './cluster/ports.js';
import { createPolicyWriter } from './cluster/policies/policy-writer.js';
import type { PolicyChange, PolicyWriter } from './cluster/policies/policy-writer.js';
import { fileKey } from './core/policy-document.js';
import type { Changes, EntryValue, PolicyDocument } from './core/policy-document.js';
import type { PolicyFileText } from './core/policy-file.js';
import type { Audit, Who } from './http/access/audit.js';
import { parseJson } from './validate/json.js';
import { SettingsError } from './settings.js';
import { readPolicyFile, readPolicyObject, watchPolicyFile } from './store/policy-file.js';
import { createPolicyStateFile, readPolicyState } from './store/policy-state.js';
import type { PolicyState } from './store/policy-state.js';

type FileEntries = ReadonlyMap<string, EntryValue>;

/** Where policies come from besides other nodes, and where they are kept for a restart. */
export interface PolicySource {
  /** What this node knew when it ended, before it joins. */
  readonly state: Pick<PolicyState, 'document' | 'registry'> | undefined;
  /** @returns what writes policies; it works once the node has joined */
  connect(node: ClusterNode): PolicyWriter<Who>;
  /** Once the node has joined: puts what is new in the file in force, and watches the file. */
  begin(): Promise<void>;
  /** Looks at the file no more. */
  close(): void;
  /** Resolves once all that is known is kept. */
  saved(): Promise<void>;
}

/**
 * @param setting names the source in errors
 * @param given the path of a policy file, or its contents
 * @param statePath where changes are kept, if anywhere
 * @throws SettingsError where either is there and not valid
 */
export async function openPolicySource(
  setting: string,
  given: string | PolicyFileText | undefined,
  statePath: string | undefined,
  { log, audit }: { log: Log; audit: Audit },
): Promise<PolicySource> {
  const path = typeof given === 'string' ? given : 'the object given';
  const file = typeof given === 'string' ? await readPolicyFile(given, parseJson) : given && readPolicyObject(given);
  if (file?.kind === 'unreadable') throw new SettingsError(`${setting}: ${path} cannot be read: ${file.reason}`);
  if (file?.kind === 'invalid') {
    const list = file.mistakes.map(({ detail }) => detail).join('; ');
    throw new SettingsError(`${setting}: ${path} is not valid: ${list}`);
  }
  const state =
    statePath === undefined
      ? undefined
      : await readPolicyState(statePath).catch((error: unknown) => {
          throw new SettingsError(`TOKENRING_POLICIES_STATE: ${statePath} is not valid: ${(error as Error).message}`, {
            cause: error,
          });
        });
  const kept = statePath === undefined ? undefined : createPolicyStateFile({ path: statePath, log });
  /** What the file said last. */
  let fromFile: FileEntries | undefined = state?.file;
  let stopWatching: (() => void) | undefined;
  const saved = (): Promise<void> => kept?.saved() ?? Promise.resolve();

  let connected: { node: ClusterNode; writer: PolicyWriter<Who> } | undefined;

  function save(): void {
    const { document, registry } = connected!.node.activePolicies;
    kept?.save({ document, registry, file: fromFile });
  }

  /** @returns whether it is in force: what could not be made known is tried again */
  async function apply(entries: FileEntries): Promise<boolean> {
    const { node, writer } = connected!;
    const changes = changesOf(node.activePolicies.document, fromFile, entries);
    if (changes.size > 0) {
      const written = await writer.write(changes, { file: path });
      if (written.kind !== 'written') {
        const { kind: outcome, ...more } = written;
        log.warn({ path, outcome, ...more }, 'the policy file could not be put in force');
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
      const record = ({ version, ...change }: PolicyChange<Who>): void =>
        audit({ ...change, what: 'policies changed', target: `version ${version}` });
      const { policies, activePolicies } = node;
      const writer = createPolicyWriter({ policies, activePolicies }, { record, saved });
      connected = { node, writer };
      return writer;
    },
    async begin() {
      connected!.node.activePolicies.onChange(save);
      if (file === undefined) return save();
      while (!(await apply(file.entries)));
      if (typeof given === 'string') stopWatching = watchPolicyFile({ path, parse: parseJson, log }, file.text, apply);
    },
    close: () => stopWatching?.(),
    saved,
  };
}

/**
 * What a file changes: what it says otherwise than the last time it was read here. Where nobody remembers, it is new unless the
 * document says it was the last to be applied; then its policies replace those of the same names, and others stay.
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
