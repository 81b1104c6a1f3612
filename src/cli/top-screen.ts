import type { NodeReport } from '../protocol/messages.js';
import { SOURCES } from '../limits/decide/decision.js';
import type { Counted } from '../lib/space-saving.js';
import { RANKINGS, SPANS_MS, type Ranking, type Span } from '../limits/top-clients.js';
import { printable, table } from './remote.js';

/** One reading of all that the view shows. */
export interface Sample {
  readonly atMs: number;
  /** Every member with its state; without `stats` if it did not answer. */
  readonly members: readonly { readonly id: string; readonly state: string; readonly stats?: NodeReport }[];
  readonly top: Readonly<Record<Ranking, readonly Counted[]>>;
  /** Members whose counts the lists lack. */
  readonly missing: readonly string[];
}

/** The choices of the user. */
export interface Choice {
  readonly sortBy: MemberColumn;
  readonly span: Span;
  /** Only clients and policies that contain this text. */
  readonly filter: string;
  /** The text that is being typed; `undefined` if none is. */
  readonly typing: string | undefined;
  /** Why the last sample is not newer; `undefined` if it is. */
  readonly trouble: string | undefined;
}

/** The columns by which members can be sorted. */
export const MEMBER_COLUMNS = ['id', 'rate', 'denied', 'lag'] as const;
type MemberColumn = (typeof MEMBER_COLUMNS)[number];

/** The activity of one member between two samples. */
interface Activity {
  readonly id: string;
  readonly state: string;
  /** Per second. */
  readonly rate: number;
  readonly allowed: number;
  readonly denied: number;
  /** Per second, in the order of `SOURCES`. */
  readonly sources: readonly number[];
  readonly stats: NodeReport | undefined;
  /** Part of the time for which the event loop was busy. */
  readonly busy: number;
}

const TITLES: Readonly<Record<Ranking, string>> = {
  denied: 'most denied',
  asked: 'asking most',
  cost: 'consuming most',
};
const KEYS = 'q quit  s sort members  h minute or hour  / filter clients';
const MIN_ROWS = 3;
const NAME_WIDTH = 40;

/** Renders the whole view as lines of at most `columns` characters, at most `rows` of them. */
export function renderTop(
  now: Sample,
  before: Sample | undefined,
  choice: Choice,
  { columns, rows }: { columns: number; rows: number },
): string[] {
  const members = activities(now, before).sort(order(choice.sortBy));
  const total = (of: (one: Activity) => number): string => rateText(members.reduce((sum, one) => sum + of(one), 0));
  const head = [
    `tokenring  ${now.members.length} members  ${total(({ rate }) => rate)} decisions/s  ` +
      `${total(({ allowed }) => allowed)} allowed  ${total(({ denied }) => denied)} denied`,
    choice.typing === undefined
      ? (choice.trouble ?? KEYS)
      : `filter: ${choice.typing}_   Enter to apply, Esc to cancel`,
    '',
  ];
  const shown = Math.max(MIN_ROWS, Math.min(members.length, Math.floor(rows / 3)));
  const memberLines = memberTable(members.slice(0, shown));
  if (members.length > shown) memberLines.push(`and ${members.length - shown} more members`);
  const left = rows - head.length - memberLines.length - 2;
  const lists = listLines(now, choice, Math.max(MIN_ROWS, left), columns);
  return [...head, ...memberLines, '', ...lists].slice(0, rows).map((line) => printable(line).slice(0, columns));
}

function activities(now: Sample, before: Sample | undefined): Activity[] {
  const seconds = before === undefined ? 0 : (now.atMs - before.atMs) / 1_000;
  return now.members.map(({ id, state, stats }) => {
    const earlier = before?.members.find((one) => one.id === id)?.stats;
    // A member that was started again counts from 0.
    const known = stats !== undefined && earlier !== undefined && stats.uptimeMs >= earlier.uptimeMs && seconds > 0;
    const rates = (of: (report: NodeReport) => Readonly<Record<string, number>>): number[] =>
      SOURCES.map((source) => (known ? (of(stats)[source]! - of(earlier)[source]!) / seconds : 0));
    const allowed = rates((report) => report.allowed);
    const denied = rates((report) => report.denied);
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
    return {
      id,
      state,
      rate: sum(allowed) + sum(denied),
      allowed: sum(allowed),
      denied: sum(denied),
      sources: allowed.map((one, i) => one + denied[i]!),
      stats,
      busy: known ? (stats.busyMs - earlier.busyMs) / (stats.uptimeMs - earlier.uptimeMs || 1) : 0,
    };
  });
}

function order(by: MemberColumn): (a: Activity, b: Activity) => number {
  const byId = (a: Activity, b: Activity): number => (a.id < b.id ? -1 : 1);
  switch (by) {
    case 'id':
      return byId;
    case 'rate':
      return (a, b) => b.rate - a.rate || byId(a, b);
    case 'denied':
      return (a, b) => b.denied - a.denied || byId(a, b);
    case 'lag':
      return (a, b) => (b.stats?.replicationLagMs ?? 0) - (a.stats?.replicationLagMs ?? 0) || byId(a, b);
  }
}

function memberTable(members: readonly Activity[]): string[] {
  const header = ['member', 'state', '/s', 'allowed', 'denied', ...SOURCES, 'lag', 'busy', 'memory', 'clients'];
  const rows = members.map(({ id, state, rate, allowed, denied, sources, stats, busy }) => [
    id,
    state,
    ...[rate, allowed, denied, ...sources].map(rateText),
    ...(stats === undefined
      ? ['-', '-', 'no answer', '-']
      : [
          `${Math.round(stats.replicationLagMs)} ms`,
          `${Math.round(busy * 100)}%`,
          `${Math.round(stats.memoryBytes / 2 ** 20)} MiB`,
          String(stats.clients),
        ]),
  ]);
  return table([header, ...rows])
    .trimEnd()
    .split('\n');
}

/** Renders the three lists side by side where the terminal is wide enough, otherwise one below the other. */
function listLines(now: Sample, { span, filter }: Choice, rows: number, columns: number): string[] {
  const wanted = filter.toLowerCase();
  const matches = ({ clientId, policy = '' }: Counted): boolean =>
    clientId.toLowerCase().includes(wanted) || policy.toLowerCase().includes(wanted);
  const lists = RANKINGS.map((by) => {
    const title = `${TITLES[by]} / ${span}${filter === '' ? '' : ` (${filter})`}`;
    return [title, ...now.top[by].filter(matches).map((one) => countedLine(one))];
  });
  const note = now.missing.length === 0 ? [] : [`without the counts of ${now.missing.join(', ')}`];
  const width = Math.floor((columns - 4) / RANKINGS.length);
  if (width < NAME_WIDTH) {
    const each = Math.max(MIN_ROWS, Math.floor(rows / RANKINGS.length));
    return [...lists.flatMap((list) => [...list.slice(0, each - 1), '']), ...note];
  }
  const height = Math.min(rows - note.length, Math.max(...lists.map((list) => list.length)));
  const lines = Array.from({ length: height }, (_, i) =>
    lists
      .map((list) => (list[i] ?? '').slice(0, width).padEnd(width))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, ...note];
}

function countedLine({ clientId, policy, count, error, source }: Counted): string {
  const under = policy === undefined ? '' : ` [${policy}]`;
  const within = error < 0.5 ? '' : ` +-${Math.round(error)}`;
  const bySdk = source.sdk < 0.5 ? '' : ` (sdk ${Math.round(source.sdk)})`;
  return `${String(Math.round(count)).padStart(8)}${within}${bySdk}  ${clientId}${under}`;
}

function rateText(perSecond: number): string {
  return perSecond > 0 && perSecond < 10 ? perSecond.toFixed(1) : String(Math.round(perSecond));
}

/**
 * Applies a key to the choice.
 * @returns `quit` to end; the same choice for a key without meaning
 */
export function applyKey(choice: Choice, key: string): Choice | 'quit' {
  if (key === '\x03') return 'quit';
  if (choice.typing !== undefined) return applyTyping(choice, choice.typing, key);
  switch (key) {
    case 'q':
      return 'quit';
    case 's': {
      const next = (MEMBER_COLUMNS.indexOf(choice.sortBy) + 1) % MEMBER_COLUMNS.length;
      return { ...choice, sortBy: MEMBER_COLUMNS[next]! };
    }
    case 'h': {
      const spans = Object.keys(SPANS_MS) as Span[];
      return { ...choice, span: spans[(spans.indexOf(choice.span) + 1) % spans.length]! };
    }
    case '/':
      return { ...choice, typing: choice.filter };
    default:
      return choice;
  }
}

function applyTyping(choice: Choice, typing: string, key: string): Choice {
  switch (key) {
    case '\r':
    case '\n':
      return { ...choice, filter: typing, typing: undefined };
    case '\x1b':
      return { ...choice, typing: undefined };
    case '\x7f':
    case '\b':
      return { ...choice, typing: typing.slice(0, -1) };
    default:
      return /^[ -~]+$/.test(key) ? { ...choice, typing: `${typing}${key}`.slice(0, NAME_WIDTH) } : choice;
  }
}
