/** How far behind the highest counter a message may arrive: several connections and lost packets reorder. */
export const WINDOW = 4096;
const BITS = 32;

/**
 * Which counters of one session have been used: all below the window count as used, so each is taken at most once.
 * A ring of bits, as in RFC 6479: 512 bytes a session.
 */
export interface ReplayWindow {
  /** Uses a counter, a whole number from 1, unless it was used or is too old to tell. */
  use(counter: number): 'fresh' | 'used' | 'too-old';
}

export function createReplayWindow(): ReplayWindow {
  const words = new Uint32Array(WINDOW / BITS);
  let highest = 0;

  function forget(from: number, to: number): void {
    if (to - from >= WINDOW) words.fill(0);
    else for (let counter = from; counter <= to; counter += 1) words[wordOf(counter)]! &= ~bitOf(counter);
  }

  return {
    use(counter) {
      if (counter <= highest - WINDOW) return 'too-old';
      if (counter > highest) {
        forget(highest + 1, counter);
        highest = counter;
      } else if ((words[wordOf(counter)]! & bitOf(counter)) !== 0) return 'used';
      words[wordOf(counter)]! |= bitOf(counter);
      return 'fresh';
    },
  };
}

function wordOf(counter: number): number {
  return Math.floor((counter % WINDOW) / BITS);
}

function bitOf(counter: number): number {
  return 1 << (counter % BITS);
}
