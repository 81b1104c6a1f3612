import { charCodeAt } from '../../lib/text.js';

/**
 * The 32-bit FNV-1a hash (Fowler, Noll and Vo) of the UTF-16 code units of a text, as int32. Anyone can find texts of one
 * hash, so it serves only for names that operators choose.
 */
export function fnv1a(text: string): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ charCodeAt(text, i), 0x01000193);
  return hash;
}
