/** @typedef {import('../../protocol/messages.js').NodeReport} NodeReport */
/** @typedef {import('../../limits/decide/decision.js').Source} Source */
/** @typedef {import('../../server/http/api/cluster-view.js').ClusterDescription} ClusterDescription */

/**
 * What a member did between two of its reports, per second.
 * @typedef {object} Rates
 * @property {number} allowed
 * @property {number} denied
 * @property {Readonly<Record<Source, number>>} bySource
 * @property {readonly number[]} durations requests by duration, as in `DURATION_BOUNDS`
 * @property {number} busy part of the time for which the event loop was busy, 0 to 1
 */

/** The names and the order of `SOURCES` in limits/decide/decision.ts. */
export const SOURCES = /** @type {const} */ (['owner', 'forwarded', 'lease', 'deny-cache', 'fallback']);

/** Upper bounds in ms, as `DURATION_BOUNDS` in limits/decide/decision.ts. The last count is of those above. */
export const BOUNDS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000];

/** Reports that follow each other more closely give no useful rates. */
const MIN_MS = 400;

/**
 * The time between two reports is the member's own, so that a late answer changes no rate.
 * @param {NodeReport} before
 * @param {NodeReport} now
 * @returns {Rates | 'too close' | undefined} undefined if the member has restarted in between
 */
export function ratesBetween(before, now) {
  const elapsedMs = now.uptimeMs - before.uptimeMs;
  if (elapsedMs < 0) return undefined;
  if (elapsedMs < MIN_MS) return 'too close';
  const perSecond = (/** @type {number} */ later, /** @type {number} */ earlier) =>
    Math.max(0, ((later - earlier) * 1_000) / elapsedMs);
  const sums = SOURCES.map((source) => ({
    source,
    allowed: perSecond(now.allowed[source], before.allowed[source]),
    denied: perSecond(now.denied[source], before.denied[source]),
  }));
  return {
    allowed: sum(sums.map(({ allowed }) => allowed)),
    denied: sum(sums.map(({ denied }) => denied)),
    bySource: /** @type {Record<Source, number>} */ (
      Object.fromEntries(sums.map(({ source, allowed, denied }) => [source, allowed + denied]))
    ),
    durations: now.durations.map((amount, i) => perSecond(amount, before.durations[i] ?? 0)),
    busy: Math.min(1, Math.max(0, (now.busyMs - before.busyMs) / elapsedMs)),
  };
}

/**
 * The duration below which this part of the requests ended, in ms. Within a bucket of the histogram it interpolates
 * evenly, as Prometheus does.
 * @param {readonly number[]} durations
 * @param {number} part 0 to 1
 * @returns {number | null} null without requests
 */
export function quantile(durations, part) {
  const total = sum(durations);
  if (total <= 0) return null;
  let left = total * part;
  for (const [i, amount] of durations.entries()) {
    const upper = BOUNDS_MS[i];
    if (upper === undefined) break;
    if (left <= amount && amount > 0) {
      const lower = i === 0 ? 0 : (BOUNDS_MS[i - 1] ?? 0);
      return lower + ((upper - lower) * left) / amount;
    }
    left -= amount;
  }
  return BOUNDS_MS.at(-1) ?? null;
}

/** @param {readonly number[]} values */
export function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

/**
 * The whole cluster at one moment.
 * @typedef {object} Sample
 * @property {number} atMs since 1970, by the browser's clock
 * @property {ClusterDescription} cluster
 * @property {ReadonlyMap<string, NodeReport>} reports of the members that answered
 * @property {ReadonlyMap<string, Rates>} rates
 * @property {Rates | undefined} total
 */

/** Turns the samples of the stream into rates. */
export function createSampler() {
  /** @type {Map<string, NodeReport>} */
  let last = new Map();
  /** @type {Map<string, Rates>} */
  let lastRates = new Map();

  /**
   * @param {{ cluster: ClusterDescription, members: readonly { id: string, stats?: NodeReport }[] }} given
   * @param {number} atMs
   * @returns {Sample}
   */
  return ({ cluster, members }, atMs) => {
    /** @type {Map<string, NodeReport>} */
    const reports = new Map();
    /** @type {Map<string, NodeReport>} */
    const kept = new Map();
    /** @type {Map<string, Rates>} */
    const rates = new Map();
    for (const { id, stats } of members) {
      const before = last.get(id);
      if (stats === undefined) continue;
      reports.set(id, stats);
      const between = before === undefined ? undefined : ratesBetween(before, stats);
      const known = between === 'too close' ? lastRates.get(id) : between;
      kept.set(id, between === 'too close' && before !== undefined ? before : stats);
      if (known !== undefined) rates.set(id, known);
    }
    last = kept;
    lastRates = rates;
    return { atMs, cluster, reports, rates, total: totalOf([...rates.values()]) };
  };
}

/**
 * @param {readonly Rates[]} rates
 * @returns {Rates | undefined}
 */
function totalOf(rates) {
  if (rates.length === 0) return undefined;
  return {
    allowed: sum(rates.map(({ allowed }) => allowed)),
    denied: sum(rates.map(({ denied }) => denied)),
    bySource: /** @type {Record<Source, number>} */ (
      Object.fromEntries(SOURCES.map((source) => [source, sum(rates.map(({ bySource }) => bySource[source]))]))
    ),
    durations: [...BOUNDS_MS, Infinity].map((_, i) => sum(rates.map(({ durations }) => durations[i] ?? 0))),
    busy: sum(rates.map(({ busy }) => busy)) / rates.length,
  };
}
