import type { PolicyHistory, PolicyWriteCall } from './history.js';

/** What was written, and what of it must stand. */
export interface Writes {
  /**
   * An acknowledged write of this key that was begun when whoever wrote this value had long been answered, so that it must stand
   * instead: at `atMs`, before which it was acknowledged itself.
   */
  readonly supersededBy: (key: string, value: unknown, atMs: number) => PolicyWriteCall | undefined;
  /** Whether anybody wrote this. */
  readonly knows: (key: string, value: unknown) => boolean;
}

/** What is written once in a run; and deletions, names and lists, which say little of who wrote them. */
export const isUnmistakable = (value: unknown): boolean => typeof value === 'object' && value !== null;

const isMade = ({ outcome }: PolicyWriteCall): boolean => outcome?.kind === 'written';

/** @param changesMs when the ring changed first: a write that was refused before was not made */
export function createWrites({ writes, adoptions, documents }: PolicyHistory, changesMs: number): Writes {
  interface Write {
    readonly value: string;
    readonly askedMs: number;
    /** Infinity: it may yet be made. */
    readonly answeredMs: number;
    readonly call: PolicyWriteCall | undefined;
  }
  const byKey = new Map<string, Write[]>();
  const add = (key: string, write: Write): void => void byKey.set(key, [...(byKey.get(key) ?? []), write]);
  const none = { askedMs: -Infinity, answeredMs: -Infinity, call: undefined };
  // The first document, of the file that all begin with.
  for (const { key, value } of documents.get(adoptions[0]!.digest)!.entries)
    add(key, { value: JSON.stringify(value), ...none });
  const isRefused = ({ outcome, answeredMs }: PolicyWriteCall): boolean =>
    outcome?.kind === 'conflict' && answeredMs! < changesMs;
  for (const call of writes.filter((one) => !isRefused(one))) {
    for (const [key, value] of call.changes) {
      if (!byKey.has(key)) add(key, { value: 'null', ...none });
      const answeredMs = isMade(call) ? call.answeredMs! : Infinity;
      add(key, { value: JSON.stringify(value), askedMs: call.askedMs, answeredMs, call });
    }
  }
  return {
    supersededBy: (key, value, atMs) => {
      const known = byKey.get(key) ?? [];
      const text = JSON.stringify(value);
      // Whoever may have written it: where that cannot be told, the last of them.
      const latest = Math.max(-Infinity, ...known.filter((one) => one.value === text).map((one) => one.answeredMs));
      return known.find(({ askedMs, answeredMs }) => askedMs > latest && answeredMs < atMs)?.call;
    },
    knows: (key, value) => (byKey.get(key) ?? []).some((one) => one.value === JSON.stringify(value)),
  };
}
