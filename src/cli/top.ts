import { setTimeout as sleep } from 'node:timers/promises';
import type { ClusterDescription } from '../server/http/api/cluster-view.js';
import type { NodeReport } from '../protocol/messages.js';
import type { Counted } from '../lib/space-saving.js';
import { MAX_LISTED, RANKINGS, SPANS_MS, type Ranking, type Span } from '../limits/top-clients.js';
import { SettingsError } from '../app/settings/settings.js';
import { asciiJson } from '../lib/text.js';
import { print } from './print.js';
import { ask, FAILED, type Input, type Run } from './remote.js';
import { applyKey, renderTop, type Choice, type Sample } from './top-screen.js';

const INTERVAL_MS = 1_000;
/** Size of a terminal that does not tell its own. */
const DEFAULT_SIZE = { columns: 120, rows: 40 };
const ENTER = '\x1b[?1049h\x1b[?25l';
const LEAVE = '\x1b[?25h\x1b[?1049l';
const HOME = '\x1b[H';
const CLEAR_LINE = '\x1b[K';
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const CLEAR_BELOW = '\x1b[J';

export const top: Run = (input) =>
  input.switches.has('once') || input.switches.has('json') ? once(input) : live(input);

function spanOf({ values }: Input): Span {
  const span = values['span'] ?? 'minute';
  if (Object.hasOwn(SPANS_MS, span)) return span as Span;
  throw new SettingsError(`top: --span: ${JSON.stringify(span)} is not valid; use minute or hour`);
}

/** @throws NoSample if the node does not answer as it should */
async function readOne(input: Input, path: string): Promise<unknown> {
  let trouble = '';
  const answer = await ask(input, path, { complain: (sentence) => (trouble = sentence) });
  if (answer === undefined) throw new NoSample(trouble);
  if (answer.status !== 200) throw new NoSample(asciiJson(answer.body));
  return answer.body;
}

/**
 * Reads one sample.
 * @throws NoSample if a node does not answer as it should
 */
async function read(input: Input, span: Span): Promise<Sample> {
  const { policy } = input.values;
  const query = (by: Ranking): string =>
    new URLSearchParams({ by, span, limit: String(MAX_LISTED), ...(policy && { policy }) }).toString();
  const paths = ['/v1/cluster', '/v1/stats', ...RANKINGS.map((by) => `/v1/top?${query(by)}`)];
  const bodies = await Promise.all(paths.map((path) => readOne(input, path)));
  const [cluster, stats, ...lists] = bodies as [
    ClusterDescription,
    { members: { id: string; stats?: NodeReport }[] },
    ...{ clients: Counted[]; missing: string[] }[],
  ];
  const members = cluster.members.map(({ id, state }) => {
    const report = stats.members.find((one) => one.id === id)?.stats;
    return { id, state, ...(report && { stats: report }) };
  });
  const ranked = RANKINGS.map((by, i) => [by, lists[i]!.clients] as const);
  return {
    atMs: performance.now(),
    members,
    top: Object.fromEntries(ranked) as unknown as Sample['top'],
    missing: lists[0]!.missing,
  };
}

/** There is no new sample; the message says why in one line. */
class NoSample extends Error {
  override readonly name = 'NoSample';
}

function troubleOf(error: unknown): string {
  if (error instanceof NoSample) return error.message;
  throw error;
}

function choiceOf(input: Input): Choice {
  return { sortBy: 'id', span: spanOf(input), filter: '', typing: undefined, trouble: undefined };
}

async function once(input: Input): Promise<number> {
  const choice = choiceOf(input);
  try {
    const before = await read(input, choice.span);
    if (input.switches.has('json')) {
      const { members, top: lists, missing } = before;
      print(`${asciiJson({ members, top: lists, missing })}\n`);
      return 0;
    }
    await sleep(INTERVAL_MS);
    const [head, , ...lines] = renderTop(await read(input, choice.span), before, choice, sizeOf());
    print([head, ...lines, ''].join('\n'));
    return 0;
  } catch (error) {
    process.stderr.write(`tokenring: ${troubleOf(error)}\n`);
    return FAILED;
  }
}

/** Draws until the user ends it, and leaves the terminal as it was. */
async function live(input: Input): Promise<number> {
  let choice = choiceOf(input);
  let now: Sample;
  let before: Sample | undefined;
  try {
    now = await read(input, choice.span);
  } catch (error) {
    process.stderr.write(`tokenring: ${troubleOf(error)}\n`);
    return FAILED;
  }
  const draw = (): void => {
    const lines = renderTop(now, before, choice, sizeOf());
    print(HOME + lines.map((line) => `${line}${CLEAR_LINE}`).join('\r\n') + CLEAR_BELOW);
  };
  const ended = new AbortController();
  const end = (): void => ended.abort();
  const hasEnded = (): boolean => ended.signal.aborted;
  const onKey = (key: string): void => {
    const next = applyKey(choice, key);
    if (next === 'quit') return end();
    choice = next;
    draw();
  };
  const leave = takeTerminal({ onKey, end, draw });
  try {
    while (!hasEnded()) {
      draw();
      await sleep(INTERVAL_MS, undefined, { signal: ended.signal }).catch(() => undefined);
      if (hasEnded()) break;
      try {
        const sample = await read(input, choice.span);
        before = now;
        now = sample;
        choice = { ...choice, trouble: undefined };
      } catch (error) {
        choice = { ...choice, trouble: troubleOf(error) };
      }
    }
  } finally {
    leave();
  }
  return 0;
}

/** Shows another screen and reads keys one by one. @returns a function that gives the terminal back */
function takeTerminal(on: { onKey: (key: string) => void; end: () => void; draw: () => void }): () => void {
  const { stdin, stdout } = process;
  stdout.write(ENTER);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.setEncoding('utf8').on('data', on.onKey).on('end', on.end);
  stdout.on('resize', on.draw);
  for (const signal of SIGNALS) process.once(signal, on.end);
  return () => {
    for (const signal of SIGNALS) process.off(signal, on.end);
    stdout.off('resize', on.draw);
    if (stdin.isTTY) stdin.setRawMode(false);
    stdin.off('data', on.onKey).off('end', on.end).pause();
    stdout.write(LEAVE);
  };
}

function sizeOf(): { columns: number; rows: number } {
  const { isTTY, columns, rows } = process.stdout;
  return isTTY ? { columns, rows } : DEFAULT_SIZE;
}
