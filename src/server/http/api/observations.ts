import type { RequestHandler } from 'express';
import type { Observer } from '../../../node/observer.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import { TokenringError } from '../../../lib/error.js';
import {
  MAX_LISTED,
  MAX_REPORTED,
  RANKINGS,
  SPANS_MS,
  type DenialReport,
  type Ranking,
  type Span,
} from '../../../limits/top-clients.js';
import type { ServerContext } from '../../edge/server-context.js';
import { requireClientId } from '../../validate/request.js';
import { DenialReportSchema } from '../../validate/schema.js';
import { Validator } from '../../validate/validator.js';
import type { BodyReader } from '../body.js';
import { Coalescer } from '../coalescer.js';

const DEFAULT_LIMIT = 20;
const PARAMETERS = ['by', 'span', 'policy', 'limit'];
const SPANS = Object.keys(SPANS_MS) as Span[];

type Query = Readonly<Record<string, unknown>>;

const denialReport = new Validator(DenialReportSchema);
/** Bound of the denials that this node takes from reports, a second. A report is a caller's own word. */
const MAX_REPORTED_A_SECOND = 10 * MAX_REPORTED;

/**
 * Age in ms to which an answer is given again, as each takes a message to every member. One who looks once a second gets
 * a new answer each time.
 */
const KEPT_MS = 900;

/** Answers `/v1/top` and `/v1/stats`, what all members count, and `/v1/denials`, what clients count. */
export class ObservationEndpoints {
  private readonly tops: Coalescer<Awaited<ReturnType<Observer['top']>>>;
  private readonly reports: Coalescer<string>;
  /** The second of the last report, and the denials that were reported in it. */
  private second = 0;
  private reported = 0;

  constructor(
    private readonly parts: {
      readonly context: Pick<ServerContext, 'counters' | 'elapsedMs' | 'turns'>;
      readonly observer: Pick<Observer, 'top' | 'reports' | 'countReported'>;
      readonly activePolicies: Pick<ActivePolicies, 'set'>;
      readonly bodies: BodyReader;
    },
  ) {
    this.tops = new Coalescer(parts.context.elapsedMs, KEPT_MS);
    this.reports = new Coalescer(parts.context.elapsedMs, KEPT_MS);
  }

  readonly top: RequestHandler = async (req, res) => {
    const query = req.query as Query;
    const stranger = Object.keys(query).find((name) => !PARAMETERS.includes(name));
    if (stranger !== undefined) throw invalid(stranger, `only ${PARAMETERS.join(', ')}`);
    const by = oneOf<Ranking>(query, 'by', RANKINGS, 'denied');
    const span = oneOf<Span>(query, 'span', SPANS, 'minute');
    const policy = text(query, 'policy');
    const limit = limitOf(query);
    const asked = { by, span, policy };
    const { clients, missing } = await this.tops.get(JSON.stringify(asked), () =>
      this.parts.observer.top(asked, MAX_LISTED),
    );
    const named = policy !== undefined && { policy };
    const answer = { by, span, spanMs: SPANS_MS[span], ...named, clients: clients.slice(0, limit), missing };
    this.parts.context.turns.run('other', () => void res.json(answer));
  };

  readonly stats: RequestHandler = async (_req, res) => {
    const json = await this.reports.get('', async () => JSON.stringify(await statsOf(this.parts.observer)));
    // All that share an answer would send it in the same turn.
    this.parts.context.turns.run('other', () => void res.type('json').send(json));
  };

  readonly denials: RequestHandler = async (req, res) => {
    const { denied, clients } = readReport(await this.parts.bodies.read(req));
    this.admit(denied);
    this.parts.context.counters.countReported(denied);
    const { default: standard, policies } = this.parts.activePolicies.set();
    const named = clients.map((one) => ({ ...one, policy: one.policy === true ? (standard ?? '') : one.policy }));
    // A policy may have been deleted meanwhile, and no report makes one up.
    this.parts.observer.countReported(named.filter(({ policy }) => policy === undefined || policies.has(policy)));
    res.status(204).end();
  };

  /** @throws TokenringError `overloaded` if more is reported in this second than this node takes */
  private admit(denied: number): void {
    const now = Math.floor(this.parts.context.elapsedMs() / 1_000);
    if (now !== this.second) this.reported = 0;
    this.second = now;
    if (this.reported + denied > MAX_REPORTED_A_SECOND)
      throw new TokenringError('overloaded', { detail: 'too many denials are reported in this second' });
    this.reported += denied;
  }
}

/** @throws TokenringError `invalid_request` that names the field and its valid values */
function readReport(value: unknown): DenialReport {
  const report = denialReport.read(value);
  for (const { clientId } of report.clients) requireClientId(clientId);
  if (report.clients.reduce((sum, { denied }) => sum + denied, 0) > report.denied)
    throw invalid('denied', 'at least the sum of its clients');
  return report;
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
