import { TokenringError } from '../../lib/error.js';

/** Questions that are kept at once. */
const MAX_ENTRIES = 32;

interface Entry<T> {
  readonly answer: Promise<T>;
  readonly askedMs: number;
  pending: boolean;
}

/**
 * Asks a costly question once for all callers that ask it at the same time or soon after. Such a question goes to every
 * member, so the number of callers must not matter to the cluster.
 */
export class Coalescer<T> {
  private readonly entries = new Map<string, Entry<T>>();

  /** @param keptMs age in ms, from the question on, to which an answer is given again; 0 shares only pending ones */
  constructor(
    private readonly nowMs: () => number,
    private readonly keptMs: number,
  ) {}

  /**
   * @param ask asks the question that `key` names. Its failure is given to all that wait, and not kept
   * @throws TokenringError `overloaded` if too many other questions were asked
   */
  get(key: string, ask: () => Promise<T>): Promise<T> {
    this.forgetOld();
    const known = this.entries.get(key);
    if (known !== undefined) return known.answer;
    if (this.entries.size >= MAX_ENTRIES)
      throw new TokenringError('overloaded', { detail: 'too many different questions about the cluster' });
    const entry: Entry<T> = { answer: ask(), askedMs: this.nowMs(), pending: true };
    this.entries.set(key, entry);
    entry.answer.then(
      () => (entry.pending = false),
      () => this.entries.delete(key),
    );
    return entry.answer;
  }

  private forgetOld(): void {
    const nowMs = this.nowMs();
    for (const [key, { askedMs, pending }] of this.entries)
      if (!pending && nowMs - askedMs >= this.keptMs) this.entries.delete(key);
  }
}
