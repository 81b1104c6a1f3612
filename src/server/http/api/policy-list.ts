import type { PolicyDocument } from '../../../policy/policy-document.js';
import type { Steps, Turns } from '../../../lib/turns.js';

/** Entries that are written between two reads of the clock. */
const ENTRIES_A_STEP = 32;

/**
 * Writes all policies as JSON, in several turns: a document may have 7 MiB.
 * @param standard name of the policy that is the default
 * @returns the same as `JSON.stringify({ default, policies, envoy, version })` in UTF-8, names in their order
 */
export async function policyListJson(
  { entries, version }: PolicyDocument,
  standard: string | undefined,
  turns: Turns,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let text = '{';
  if (standard !== undefined) text += `"default":${JSON.stringify(standard)},`;

  function* writing(field: string, prefix: string, names: readonly string[]): Steps<void> {
    text += `"${field}":{`;
    for (const [i, name] of names.entries()) {
      if (i > 0 && i % ENTRIES_A_STEP === 0) {
        parts.push(Buffer.from(text));
        text = '';
        yield;
      }
      text += `${i === 0 ? '' : ','}${JSON.stringify(name)}:${JSON.stringify(entries.get(prefix + name)!.value)}`;
    }
    text += '},';
  }

  await turns.runSteps('other', writing('policies', 'policy ', namesOf(entries, 'policy ')));
  const envoy = namesOf(entries, 'envoy ');
  if (envoy.length > 0) await turns.runSteps('other', writing('envoy', 'envoy ', envoy));
  parts.push(Buffer.from(`${text}"version":${version}}`));
  return Buffer.concat(parts);
}

/** The names of all entries of one kind that are not deleted, in their order. */
function namesOf(entries: PolicyDocument['entries'], prefix: string): readonly string[] {
  const names: string[] = [];
  for (const [key, { value }] of entries)
    if (value !== null && key.startsWith(prefix)) names.push(key.slice(prefix.length));
  return names.sort();
}
