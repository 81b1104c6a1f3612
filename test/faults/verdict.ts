import { overAdmissions, sum } from './admission.js';
import type { AskedClient } from './clients.js';
import { isDecision, machineMs, type Asked, type History } from './history.js';

/** One figure of a row, what it may be, and whether it is. */
export interface Figure {
  readonly what: string;
  readonly found: string;
  readonly bound: string;
  readonly ok: boolean;
  /** Whether a machine that gives no processor for a while can spoil it. */
  readonly timing?: boolean;
}

export interface RowResult {
  readonly failed: Figure;
  readonly over: Figure;
  /** Not all rows have one. */
  readonly back?: Figure | undefined;
  /** What else the row demands. */
  readonly also: readonly Figure[];
  readonly notes: readonly string[];
}

/** The figures beyond their bounds. */
export function missed({ failed, over, back, also }: RowResult): readonly Figure[] {
  return [failed, over, ...(back === undefined ? [] : [back]), ...also].filter(({ ok }) => !ok);
}

export function figure(what: string, found: number | string, bound: string, ok: boolean): Figure {
  return { what, found: typeof found === 'number' ? String(Math.round(found)) : found, bound, ok };
}

/** How long something took, in ms, and may take. */
export function duration(what: string, ms: number, boundMs: number): Figure {
  return { ...figure(what, ms, `<= ${boundMs}`, ms <= boundMs), timing: true };
}

/** Requests without a decision. @param excused those that were with a node when it was killed */
export function failures(asked: readonly Asked[], excused: (one: Asked) => boolean = () => false): Figure {
  const failed = asked.filter((one) => !isDecision(one) && !excused(one));
  const errors = new Map<string, number>();
  for (const { node, status, error } of failed) {
    const what = `node ${node}: ${status} ${error}`;
    errors.set(what, (errors.get(what) ?? 0) + 1);
  }
  const most = [...errors].sort((a, b) => b[1] - a[1]).slice(0, 3);
  const detail = most.map(([what, count]) => `; ${count} × ${what}`).join('');
  return figure('failed requests', `${failed.length}${detail}`, '0', failed.length === 0);
}

/** @param allowed how many more than its limit each client may have got; none without */
export function overLimit(
  asked: readonly Asked[],
  clients: readonly AskedClient[],
  allowed: ReadonlyMap<number, number> = new Map(),
): Figure {
  const over = [...overAdmissions(asked, clients)].sort((a, b) => b[1].count - a[1].count);
  const total = sum(over.map(([, { count }]) => count));
  const [worst] = over;
  const detail = worst === undefined ? '' : `, worst ${clients[worst[0]]!.id} ${worst[1].count}`;
  const beyond = over.filter(([client, { count }]) => count > (allowed.get(client) ?? 0));
  const examples = beyond.slice(0, 5).map(([client, { count, fromMs, toMs }]) => {
    const bound = allowed.get(client) ?? 0;
    return `${clients[client]!.id} ${count} > ${bound} from ${timeOfDay(fromMs)} to ${timeOfDay(toMs)}`;
  });
  const excess = beyond.length === 0 ? '' : `; beyond: ${beyond.length} clients (${examples.join(', ')})`;
  const bound = `<= ${sum(allowed.values())}`;
  return figure('admitted over the limit', `${total}${detail}${excess}`, bound, beyond.length === 0);
}

/** As the logs of the nodes give it: ms of the day. */
function timeOfDay(ms: number): number {
  return Math.round(ms - machineMs() + Date.now()) % 86_400_000;
}

/** For each client, how many `owners` admitted in the `spanMs` before `untilMs`: what a copy of that age need not know. */
export function admittedLately(
  asked: readonly Asked[],
  owners: ReadonlySet<string>,
  untilMs: number,
  spanMs: number,
): Map<number, number> {
  const counts = new Map<number, number>();
  for (const { client, allowed, owner, sentMs, receivedMs } of asked) {
    if (allowed !== true || !owners.has(owner!) || sentMs > untilMs || receivedMs < untilMs - spanMs) continue;
    counts.set(client, (counts.get(client) ?? 0) + 1);
  }
  return counts;
}

/** The longest that any of these waited for its decision since `fromMs`. */
export function longestWait(asked: readonly Asked[], fromMs: number): number {
  const waits = asked.filter(isDecision).map(({ sentMs, receivedMs }) => receivedMs - Math.max(sentMs, fromMs));
  return waits.reduce((longest, wait) => Math.max(longest, wait), 0);
}

const SLICE_MS = 100;
const SLICES = 10;

/** What there is to say of every run. */
export function commonNotes({ asked, pacedMs, stalledMs, unsent }: History, faultMs?: number): string[] {
  const perSecond = (asked.filter(isDecision).length / pacedMs) * 1000;
  const notes = [
    `${Math.round(perSecond)} decisions/s for ${(pacedMs / 1000).toFixed(1)} s, generator off the processor for ${Math.round(stalledMs)} ms at most, ${unsent} requests not sent for that`,
  ];
  if (faultMs !== undefined) {
    const slices = new Array<number>(2 * SLICES).fill(0);
    for (const { receivedMs } of asked) {
      const slice = SLICES + Math.floor((receivedMs - faultMs) / SLICE_MS);
      if (slice >= 0 && slice < slices.length) slices[slice]! += 1;
    }
    const before = Math.min(...slices.slice(0, SLICES));
    const after = Math.min(...slices.slice(SLICES));
    notes.push(`fewest answers in ${SLICE_MS} ms: ${before} in the second before, ${after} in the second after`);
  }
  return notes;
}

/** Whether the machine let the generator send most of the load, so that the row says something. */
export function loadHeld({ asked, due }: History): Figure {
  const percent = (100 * asked.length) / due;
  return { ...figure('% of the load sent', percent, '>= 50', percent >= 50), timing: true };
}

export function countBy<T>(items: readonly T[], keyOf: (item: T) => string): string {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return [...counts].map(([key, count]) => `${count} ${key}`).join(', ');
}
