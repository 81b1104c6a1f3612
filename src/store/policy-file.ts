import { hash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { Log } from '../lib/system.js';
import type { Mistake } from '../lib/mistake.js';
import { checkPolicyFile, entriesOf, warningsOnFile, type PolicyFileText } from '../policy/policy-file.js';
import type { EntryValue } from '../policy/policy-entry.js';

type PolicyFile =
  | {
      readonly kind: 'read';
      readonly entries: ReadonlyMap<string, EntryValue>;
      readonly digest: string;
      /** What the file may not mean as it says it, each in a sentence. */
      readonly warnings: readonly string[];
    }
  | { readonly kind: 'invalid'; readonly mistakes: readonly Mistake[]; readonly digest: string }
  /** The file cannot be read; `reason` comes from the operating system. */
  | { readonly kind: 'unreadable'; readonly reason: string };

/** Parses a JSON text in UTF-8. Throws an error with a `detail` for anything else. */
type ParseJson = (text: Buffer) => unknown;

/** @param maxBytes bound of the policies as JSON */
export async function readPolicyFile(path: string, parse: ParseJson, maxBytes?: number): Promise<PolicyFile> {
  let content: Buffer;
  try {
    content = await readFile(path);
  } catch (error) {
    return { kind: 'unreadable', reason: (error as Error).message };
  }
  const digest = hash('sha256', content);
  let value: unknown;
  try {
    value = parse(content);
  } catch (error) {
    const { message, detail = message } = error as Error & { detail?: string };
    return {
      kind: 'invalid',
      mistakes: [{ field: 'file', expected: 'JSON', detail: `file: not valid JSON: ${detail}` }],
      digest,
    };
  }
  return readPolicyObject(value, maxBytes, digest);
}

/** Reads policies from a parsed value. `digest` is that of its file; it is empty for a value from elsewhere. */
export function readPolicyObject(
  value: unknown,
  maxBytes?: number,
  digest = '',
): Exclude<PolicyFile, { kind: 'unreadable' }> {
  const mistakes = checkPolicyFile(value, maxBytes);
  if (mistakes.length > 0) return { kind: 'invalid', mistakes, digest };
  const file = value as PolicyFileText;
  return { kind: 'read', entries: entriesOf(file), digest, warnings: warningsOnFile(file) };
}

/** The message of a log line for each warning about the policy file. */
export const WARNING = 'the policies may not mean what they say';

/** Time between two reads. Polling works on any file system, for links, and for files that are replaced. */
const POLL_INTERVAL_MS = 250;

/**
 * Calls `changed` within half a second of each change of the file. Invalid content is logged field by field, but only
 * after two reads have found the same, as the first may have read a half-written file.
 * @param last digest of the last read
 * @param changed resolves with whether the change is applied; otherwise it is called again
 * @returns a function that ends the watch
 */
export function watchPolicyFile(
  { path, parse, log, maxBytes }: { path: string; parse: ParseJson; log: Log; maxBytes: number },
  last: string,
  changed: (entries: ReadonlyMap<string, EntryValue>) => Promise<boolean>,
): () => void {
  let known: string | undefined = last;
  let invalid: string | undefined;
  let isReading = false;

  async function poll(): Promise<void> {
    const file = await readPolicyFile(path, parse, maxBytes);
    const seen = file.kind === 'unreadable' ? file.reason : file.digest;
    if (seen === known) return;
    if (file.kind !== 'read' && seen !== invalid) {
      invalid = seen;
      return;
    }
    known = seen;
    invalid = undefined;
    if (file.kind === 'read') {
      for (const detail of file.warnings) log.warn({ path, detail }, WARNING);
      if (!(await changed(file.entries))) known = undefined;
      return;
    }
    if (file.kind === 'unreadable') {
      return log.warn({ path, reason: file.reason }, 'the policy file cannot be read; keeping the policies in force');
    }
    for (const { field, expected, detail } of file.mistakes)
      log.warn({ path, field, expected, detail }, 'mistake in the policy file');
    log.warn({ path, mistakes: file.mistakes.length }, 'the policy file is not valid; keeping the policies in force');
  }

  const timer = setInterval(() => {
    if (isReading) return;
    isReading = true;
    void poll().finally(() => (isReading = false));
  }, POLL_INTERVAL_MS);
  timer.unref();
  return () => clearInterval(timer);
}
