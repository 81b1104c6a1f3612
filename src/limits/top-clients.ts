import type { Check } from './decide/check.js';
import { fnv1a } from './ring/fnv1a.js';
import { Summary, sourceOf, type Counted, type SummaryKey } from '../lib/space-saving.js';

/** The counts by which clients are ranked: denials, requests, and tokens of the requests that were allowed. */
export const RANKINGS = ['denied', 'asked', 'cost'] as const;
export type Ranking = (typeof RANKINGS)[number];

/** Times in which counts decay, by name. */
export const SPANS_MS = { minute: 60_000, hour: 3_600_000 } as const;
export type Span = keyof typeof SPANS_MS;

/** The largest counts of one node. */
export interface TopPart {
  /** Largest first. */
  readonly clients: readonly Counted[];
  /** No other client has more. */
  readonly floor: number;
}

/** Largest number of denials in one report: about what one process answers from memory in a second. */
export const MAX_REPORTED = 1_000_000;

/** Denials that a client of the cluster has answered by itself. */
export interface DenialReport {
  /** All of them, also those of clients that are not listed, and peeks. */
  readonly denied: number;
  /** The clients that were denied most. */
  readonly clients: readonly {
    readonly clientId: string;
    /** A name, or `true` for the default policy; absent if the requests named their own limits. */
    readonly policy?: string | true;
    readonly denied: number;
  }[];
}

/** Counts of each ranking and span. */
export const MAX_LISTED = 64;
/** Ids and policies of each ranking and span. With up to 54 characters each, there is room for all counts. */
export const NAME_BYTES = 3_500;
/** A node counts at most about so many decisions a second. At a higher rate it counts a sample of them. */
const SAMPLES_PER_SECOND = 256;

/**
 * Counts the clients of the decisions that this node makes.
 *
 * Six summaries: three rankings, over a minute and over an hour. Together they take less than 64 KiB. At a high rate,
 * each decision is counted with the probability 1/period, and then with `period` times its weight, so counts stay
 * unbiased. The period grows with the rate, so the cost per second is bounded.
 * @param options.seed 32 bits that callers cannot guess, so that they cannot hide between samples
 */
export class TopClients {
  private readonly random: () => number;
  private readonly summaries: {
    minute: Readonly<Record<'cost' | 'denied' | 'asked', Summary>>;
    hour: Readonly<Record<'cost' | 'denied' | 'asked', Summary>>;
  };
  private period = 1;
  /** Decisions until the next sample. */
  private left = 1;
  private samples = 0;
  /** Decisions since `sinceMs`, as the samples stand for them. */
  private decisions = 0;
  private sinceMs = 0;

  constructor(seed: number) {
    this.random = createXorshift(seed);
    this.summaries = { minute: this.rankingsOf('minute'), hour: this.rankingsOf('hour') };
  }

  /** Passes over a decision, unless it is the next of the sample: `count` must then be called. */
  skip(): boolean {
    if (this.left <= 1) return false;
    this.left -= 1;
    return true;
  }

  /** Counts a decision. */
  count(
    check: Pick<Check, 'clientId' | 'hashHigh' | 'rules' | 'cost' | 'peek'>,
    allowed: boolean,
    nowMs: number,
  ): void {
    this.left -= 1;
    if (this.left > 0 || check.peek) return;
    const { cost } = check;
    const { policy } = check.rules[0]!;
    const key = keyOf(check, policy);
    const variance = this.period * (this.period - 1);
    for (const { denied, asked, cost: spent } of [this.summaries.minute, this.summaries.hour]) {
      asked.add(key, this.period, variance, nowMs);
      if (allowed) spent.add(key, this.period * cost, variance * cost * cost, nowMs);
      else denied.add(key, this.period, variance, nowMs);
    }
    this.adjust(nowMs);
    this.left = this.untilNext();
  }

  /** Adds denials that a client of the cluster reports. */
  add(client: Pick<Check, 'clientId' | 'hashHigh'>, policy: string | undefined, denials: number, nowMs: number): void {
    const key = keyOf(client, policy);
    for (const { denied, asked } of [this.summaries.minute, this.summaries.hour])
      for (const summary of [denied, asked]) summary.add(key, denials, 0, nowMs, 'sdk');
  }

  /** Returns the largest counts; with `policy`, of requests under this policy only. */
  top(by: Ranking, span: Span, policy: string | undefined, nowMs: number): TopPart {
    const summary = this.summaries[span][by];
    const all = summary.list(nowMs);
    const clients = policy === undefined ? all : all.filter((one) => one.policy === policy);
    return { clients, floor: summary.floor(nowMs) };
  }

  private summaryOf(span: Span): Summary {
    return new Summary({ size: MAX_LISTED, nameBytes: NAME_BYTES, decayMs: SPANS_MS[span] });
  }

  private rankingsOf(span: Span): Readonly<Record<Ranking, Summary>> {
    return { denied: this.summaryOf(span), asked: this.summaryOf(span), cost: this.summaryOf(span) };
  }

  /** Adjusts the period to the rate: each second, and at once where a second has too many samples. */
  private adjust(nowMs: number): void {
    this.samples += 1;
    this.decisions += this.period;
    const elapsedMs = nowMs - this.sinceMs;
    if (elapsedMs >= 1_000) {
      this.period = Math.max(1, Math.ceil((this.decisions * 1_000) / elapsedMs / SAMPLES_PER_SECOND));
      this.decisions = this.samples = 0;
      this.sinceMs = nowMs;
    } else if (this.samples > SAMPLES_PER_SECOND) {
      this.period *= 2;
      this.samples = 0;
    }
  }

  /** Decisions until the next that is counted: geometrically distributed, so no pattern of requests escapes. */
  private untilNext(): number {
    return this.period === 1 ? 1 : 1 + Math.floor(Math.log(1 - this.random()) / Math.log(1 - 1 / this.period));
  }
}

function keyOf({ clientId, hashHigh }: Pick<Check, 'clientId' | 'hashHigh'>, policy: string | undefined): SummaryKey {
  return { clientId, policy, hash: hashHigh ^ (policy === undefined ? 0 : fnv1a(policy)) };
}

/** Marsaglia's xorshift32 ("Xorshift RNGs", 2003). @returns numbers above 0 and below 1 */
function createXorshift(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/**
 * Merges the counts of several nodes, each of which counted other decisions (Agarwal et al., "Mergeable summaries",
 * 2012). A node that does not list a client may still have counted it, up to the node's floor: that adds to the error.
 */
export function mergeTop(parts: readonly TopPart[], limit: number): Counted[] {
  const floors = parts.reduce((sum, { floor }) => sum + floor, 0);
  const merged = new Map<string, Counted>();
  for (const { clients, floor } of parts) {
    for (const { count, error, source, ...client } of clients) {
      const key = JSON.stringify([client.clientId, client.policy]);
      const other = merged.get(key) ?? { count: 0, error: floors, source: { node: 0, sdk: 0 } };
      const [sum, sdk] = [other.count + count, other.source.sdk + source.sdk];
      merged.set(key, { ...client, count: sum, error: other.error + error - floor, source: sourceOf(sum, sdk) });
    }
  }
  return [...merged.values()].sort((a, b) => b.count - a.count).slice(0, limit);
}
