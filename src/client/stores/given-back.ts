/** A reservation can be settled for ten minutes. */
const OPEN_MS = 590_000;
/** Bound of hits that may be given back. */
const MAX_OPEN = 100_000;

interface Open {
  /** `undefined` for a hit that was denied, so that there is nothing to give back. */
  readonly reservation: string | undefined;
  readonly untilMs: number;
}

interface OpenHits {
  add(key: string, reservation: string | undefined): void;
  /** Removes the last hit of a key. @returns its reservation, if there is one */
  take(key: string): string | undefined;
  clear(): void;
}

/**
 * Remembers hits that may be given back. A middleware names only the key, so it is the last hit: of two requests that are
 * under way at once, the wrong one may be given back. The count is right, and it ends by that much earlier.
 */
export function createOpenHits({ nowMs }: { nowMs: () => number }): OpenHits {
  const byKey = new Map<string, Open[]>();
  let size = 0;

  function drop(key: string, hits: Open[], count: number): void {
    hits.splice(0, count);
    size -= count;
    if (hits.length === 0) byKey.delete(key);
  }

  function dropOld(key: string, hits: Open[]): void {
    const now = nowMs();
    const alive = hits.findIndex(({ untilMs }) => untilMs > now);
    drop(key, hits, alive < 0 ? hits.length : alive);
  }

  return {
    add(key, reservation) {
      const hits = byKey.get(key) ?? [];
      dropOld(key, hits);
      hits.push({ reservation, untilMs: nowMs() + OPEN_MS });
      size += 1;
      // The key that was hit last stands last.
      byKey.delete(key);
      byKey.set(key, hits);
      if (size > MAX_OPEN) {
        const [oldest, others] = byKey.entries().next().value!;
        drop(oldest, others, 1);
      }
    },
    take(key) {
      const hits = byKey.get(key);
      if (hits === undefined) return undefined;
      dropOld(key, hits);
      const last = hits.pop();
      if (last !== undefined) size -= 1;
      if (hits.length === 0) byKey.delete(key);
      return last?.reservation;
    },
    clear() {
      byKey.clear();
      size = 0;
    },
  };
}
