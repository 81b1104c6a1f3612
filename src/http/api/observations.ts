import type { RequestHandler } from 'express';
import type { Observer } from '../../cluster/observer.js';
import { TokenringError } from '../../core/error.js';
import { MAX_LISTED, RANKINGS, SPANS_MS } from '../../core/top-clients.js';
import type { Ranking, Span } from '../../core/top-clients.js';

const DEFAULT_LIMIT = 20;
const PARAMETERS = ['by', 'span', 'policy', 'limit'];
const SPANS = Object.keys(SPANS_MS) as Span[];

type Query = Readonly<Record<string, unknown>>;

/** Handles `/v1/top` and `/v1/stats`: what all members count. */
export function createObservationHandlers(
  observer: Pick<Observer, 'top' | 'reports'>,
): Readonly<Record<'top' | 'stats', RequestHandler>> {
  return {
    top: async (req, res) => {
      const query = req.query as Query;
      const stranger = Object.keys(query).find((name) => !PARAMETERS.includes(name));
      if (stranger !== undefined) throw invalid(stranger, `only ${PARAMETERS.join(', ')}`);
      const by = oneOf<Ranking>(query, 'by', RANKINGS, 'denied');
      const span = oneOf<Span>(query, 'span', SPANS, 'minute');
      const policy = text(query, 'policy');
      const { clients, missing } = await observer.top({ by, span, policy }, limitOf(query));
      res.json({ by, span, spanMs: SPANS_MS[span], ...(policy !== undefined && { policy }), clients, missing });
    },
    stats: async (_req, res) => void res.json(await statsOf(observer)),
  };
}

/** The counters of each member, by id. */
export async function statsOf(observer: Pick<Observer, 'reports'>): Promise<{ members: object[] }> {
  const members = [...(await observer.reports())].map(([id, stats]) => ({ id, ...(stats && { stats }) }));
  return { members: members.sort((a, b) => (a.id < b.id ? -1 : 1)) };
}

function text(query: Query, name: string): string | undefined {
  const value = query[name];
  if (value === undefined || (typeof value === 'string' && value !== '')) return value;
  throw invalid(name, 'one value');
}

function oneOf<T extends string>(query: Query, name: string, values: readonly T[], usual: T): T {
  const value = text(query, name) ?? usual;
  if ((values as readonly string[]).includes(value)) return value as T;
  throw invalid(name, values.join(', '));
}

function limitOf(query: Query): number {
  const value = text(query, 'limit') ?? String(DEFAULT_LIMIT);
  const limit = /^[0-9]{1,3}$/.test(value) ? Number(value) : 0;
  if (limit >= 1 && limit <= MAX_LISTED) return limit;
  throw invalid('limit', `a whole number from 1 to ${MAX_LISTED}`);
}

function invalid(field: string, expected: string): TokenringError {
  return new TokenringError('invalid_request', { field, expected });
}
