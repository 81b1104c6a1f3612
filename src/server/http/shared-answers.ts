import { TokenringError } from '../../lib/error.js';

/** Questions that are kept at once. */
const MAX_KEPT = 32;

interface Kept<T> {
  readonly answer: Promise<T>;
  readonly askedMs: number;
  pending: boolean;
}

/**
 * Asks a costly question once for all callers that ask it at the same time or soon after. Such a question goes to every
 * member, so the number of callers must not matter to the cluster.
 */
export class SharedAnswers<T> {
  private readonly kept = new Map<string, Kept<T>>();

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
    const known = this.kept.get(key);
    if (known !== undefined) return known.answer;
    if (this.kept.size >= MAX_KEPT)
      throw new TokenringError('overloaded', { detail: 'too many different questions about the cluster' });
    const kept: Kept<T> = { answer: ask(), askedMs: this.nowMs(), pending: true };
    this.kept.set(key, kept);
    kept.answer.then(
      () => (kept.pending = false),
      () => this.kept.delete(key),
    );
    return kept.answer;
  }

  private forgetOld(): void {
    const nowMs = this.nowMs();
    for (const [key, { askedMs, pending }] of this.kept)
      if (!pending && nowMs - askedMs >= this.keptMs) this.kept.delete(key);
  }
}
