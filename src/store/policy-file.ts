import { readFile } from 'node:fs/promises';
import type { Log } from '../cluster/ports.js';
import type { Mistake } from '../core/check-policy.js';
import { checkPolicyFile, entriesOf } from '../core/policy-file.js';
import type { PolicyFileText } from '../core/policy-file.js';
import type { EntryValue } from '../core/policy-document.js';

type PolicyFile =
  | { readonly kind: 'read'; readonly entries: ReadonlyMap<string, EntryValue>; readonly text: string }
  | { readonly kind: 'invalid'; readonly mistakes: readonly Mistake[]; readonly text: string }
  /** The file cannot be read: `reason` is the operating system's. */
  | { readonly kind: 'unreadable'; readonly reason: string };

/** The value of a JSON text in UTF-8; throws an error with a `detail` for anything else. */
type ParseJson = (text: Buffer) => unknown;

export async function readPolicyFile(path: string, parse: ParseJson): Promise<PolicyFile> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    return { kind: 'unreadable', reason: (error as Error).message };
  }
  const text = content.toString('utf8');
  let value: unknown;
  try {
    value = parse(content);
  } catch (error) {
    const { message, detail = message } = error as Error & { detail?: string };
    return { kind: 'invalid', mistakes: [{ field: 'file', expected: `JSON: ${detail}` }], text };
  }
  const mistakes = checkPolicyFile(value);
  if (mistakes.length > 0) return { kind: 'invalid', mistakes, text };
  return { kind: 'read', entries: entriesOf(value as PolicyFileText), text };
}

/** How often the file is looked at: asking is cheap, and works on any file system, for links and for files that are replaced. */
const LOOK_INTERVAL_MS = 250;

/**
 * Calls `changed` with each valid content that differs from the last one, within half a second. What is not valid is
 * logged field by field, once it is the same at two looks: the first may have met a file half written.
 * @param changed resolves with whether it is done, or is to be called again
 * @returns what ends it
 */
export function watchPolicyFile(
  { path, parse, log }: { path: string; parse: ParseJson; log: Log },
  last: string,
  changed: (entries: ReadonlyMap<string, EntryValue>) => Promise<boolean>,
): () => void {
  let known: string | undefined = last;
  let suspect: string | undefined;
  let looking = false;

  async function look(): Promise<void> {
    const file = await readPolicyFile(path, parse);
    const seen = file.kind === 'unreadable' ? file.reason : file.text;
    if (seen === known) return;
    if (file.kind !== 'read' && seen !== suspect) {
      suspect = seen;
      return;
    }
    known = seen;
    suspect = undefined;
    if (file.kind === 'read') {
      if (!(await changed(file.entries))) known = undefined;
      return;
    }
    if (file.kind === 'unreadable') {
      return log.warn({ path, reason: file.reason }, 'the policy file cannot be read: its policies stay as they are');
    }
    for (const { field, expected } of file.mistakes)
      log.warn({ path, field, expected }, 'a mistake in the policy file');
    log.warn({ path, mistakes: file.mistakes.length }, 'refused the policy file: the policies stay as they are');
  }

  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    void look().finally(() => (looking = false));
  }, LOOK_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
