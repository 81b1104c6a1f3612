import type { MemberRecord } from '../messages.js';

/** FNV-1a over ids, lives and states, in a fixed order; beats are left out, as they always differ. */
export function viewDigest(records: readonly Pick<MemberRecord, 'id' | 'incarnation' | 'state'>[]): string {
  const text = records
    .map(({ id, incarnation, state }) => `${id} ${incarnation} ${state}`)
    .sort()
    .join('\n');
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16);
}
