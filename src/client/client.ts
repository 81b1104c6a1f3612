import { randomBytes } from 'node:crypto';
import type { Dispatcher } from 'undici';
import type { LoadReport } from '../core/adaptive.js';
import { CLOSED_RETRY_MS } from '../core/decision.js';
import type { Decision, Settlement } from '../core/decision.js';
import { createDenials } from '../core/denials.js';
import type { ClientDescription } from '../core/description.js';
import type { AllowRequest } from '../core/request.js';
import { createQuestionDispatcher } from './dispatcher.js';
import { createCaller } from './caller.js';
import { createTopology } from './topology.js';
import { TokenringError } from '../core/error.js';
import { createLoadWatch } from './load-watch.js';
import type { LoadWatch, LoadWatchOptions } from './load-watch.js';
import { createRefresher } from './refresher.js';
import type { ReadOptions } from './options.js';
import { invalid, isCost, rulesOf, textOf } from './question.js';
import { readDescription, readLoad, readSettlement } from './read-answer.js';
import type { LoadAnswer } from './read-answer.js';
import type { Time } from './time.js';
import { createTransport } from './transport.js';

/** A limiter elsewhere: asks the nodes of a cluster. */
export interface Client {
  /**
   * Whether this client may make one request now, which is then counted.
   * @param limit requests allowed per window: whole, 0 to 1e9; 0 denies all
   * @param window whole ms, or `"10s"`, `"1m"`, `"1h"`, `"1d"`: 1 ms to 366 days
   * @throws TokenringError see `check`
   */
  allow(
    clientId: string,
    limit: number,
    window: number | string,
    more?: Omit<AllowRequest, 'clientId' | 'limit' | 'window' | 'windowMs' | 'limits' | 'policy'>,
  ): Promise<boolean>;
  /**
   * The full question and the full answer. A denial is an answer.
   * @throws TokenringError with the code of the node where the question is at fault (`invalid_request` names the `field` and what is
   * `expected`, `unknown_policy`, `unauthorized` …); `no_answer` where no node answers in time, `overloaded` where too many wait, unless
   * `onUnavailable` says otherwise; `closed`
   */
  check(request: AllowRequest): Promise<Decision>;
  /** Several, in order; an error in the place of a decision that could not be made. Never rejects. */
  checkMany(requests: readonly AllowRequest[]): Promise<readonly (Decision | TokenringError)[]>;
  /** Takes a cost that is known only later; `reservation` of the decision is what to settle, where it is allowed. */
  reserve(request: AllowRequest): Promise<Decision>;
  /**
   * Replaces a reserved cost by the real one: whole, 0 to 1e9. Settling twice counts once.
   * @throws TokenringError `unknown_reservation` after ten minutes; `no_answer` or `unavailable` when it is to be called again
   */
  settle(reservation: string, cost: number): Promise<Settlement>;
  /** What a client has consumed, consuming nothing. @throws TokenringError */
  describe(clientId: string): Promise<ClientDescription>;
  /**
   * Reports the load of what an adaptive policy protects, about once a second.
   * @throws TokenringError `not_found` where no policy of this name follows a load
   */
  reportLoad(policy: string, report: LoadReport): Promise<LoadAnswer>;
  /**
   * Measures what an adaptive policy protects, and reports it once a second until it is stopped, or the client closed.
   * @throws TypeError that names an option that is not valid
   */
  watchLoad(policy: string, options?: LoadWatchOptions): LoadWatch;
  /** Waits for what is under way, and stops. Calls after it reject. */
  close(): Promise<void>;
}

/** What a client needs of the world. */
interface ClientDeps {
  readonly dispatcher: Dispatcher;
  readonly time: Time;
}

/** A client, given its connections and its time. */
export function createClientWith({ dispatcher, time }: ClientDeps, options: ReadOptions): Client {
  const { timeoutMs, maxWaiting, refreshMs, onUnavailable, rememberDenialsMs } = options;
  const transport = createTransport({ dispatcher, time }, options);
  const directory = createTopology(options.nodes);
  const lookout = createRefresher({ transport, directory, time }, { refreshMs, timeoutMs });
  const onFailure = (): void => lookout.doubt();
  const asker = createQuestionDispatcher({ transport, directory, time, onFailure }, { timeoutMs, maxWaiting });
  const caller = createCaller({ transport, directory, time, onFailure }, { timeoutMs });
  const denials = createDenials({ max: options.maxDenials, longestMs: rememberDenialsMs });
  const idPrefix = randomBytes(12).toString('base64url');
  let ids = 0;
  const newId = (): string => `${idPrefix}${(ids += 1).toString(36)}`;
  const wholeMs = (): number => Math.floor(time.nowMs());
  const watches = new Set<LoadWatch>();
  let closed = false;
  let closing: Promise<void> | undefined;

  function requireOpen(): void {
    if (closed) throw new TokenringError('closed');
    lookout.asked();
  }

  function withoutNodes(request: AllowRequest, error: TokenringError): Decision {
    if (onUnavailable === 'throw') throw error;
    const allowed = onUnavailable === 'open';
    return {
      allowed,
      limit: request.limit ?? request.limits?.[0]?.limit ?? 0,
      remaining: 0,
      retryAfterMs: allowed ? 0 : CLOSED_RETRY_MS,
      resetMs: 0,
      owner: directory.ownerOf(request.clientId) ?? '',
      source: 'fallback',
      degraded: true,
      limits: undefined,
    };
  }

  async function check(request: AllowRequest): Promise<Decision> {
    requireOpen();
    const text = textOf(request, newId);
    const { clientId, cost = 1, peek = false, requestId } = request;
    const rules = rememberDenialsMs > 0 && isCost(cost) ? rulesOf(request) : undefined;
    const question = rules && { clientId, rules, cost, peek, requestId };
    const nowMs = wholeMs();
    const denial = question && denials.recall(question, nowMs);
    if (denial !== undefined) return denial;
    const asking = denials.asking(nowMs);
    const asked = await asker.ask(clientId, text);
    switch (asked.kind) {
      case 'decided': {
        const { decision, by } = asked;
        // Somebody else owns the client by now, or is not there anymore.
        if (decision.owner !== directory.ownerOf(clientId)) lookout.doubt(by);
        if (question !== undefined && !decision.allowed) denials.remember(question, decision, asking, wholeMs());
        return decision;
      }
      case 'refused':
        throw asked.error;
      case 'unanswered':
        return withoutNodes(request, asked.error);
    }
  }

  async function reportLoad(policy: string, report: LoadReport): Promise<LoadAnswer> {
    requireOpen();
    const path = `/v1/load/${pathOf('policy', policy)}`;
    return caller.call(policy, { method: 'PUT', path, body: JSON.stringify(report) }, readLoad);
  }

  async function close(): Promise<void> {
    closed = true;
    for (const watch of watches) watch.stop();
    lookout.close();
    await Promise.all([asker.idle(), caller.idle()]);
    await dispatcher.destroy();
  }

  return {
    check,
    allow: async (clientId, limit, window, more) => (await check({ ...more, clientId, limit, window })).allowed,
    checkMany: (requests) =>
      Promise.all(requests.map((request) => check(request).catch((error: unknown) => error as TokenringError))),
    reserve: (request) => check({ ...request, reserve: true }),
    async settle(reservation, cost) {
      requireOpen();
      if (typeof reservation !== 'string') throw invalid('reservation', 'a string');
      const body = JSON.stringify({ reservation, cost });
      const clientId = clientOf(reservation);
      const settlement = await caller.call(clientId, { method: 'POST', path: '/v1/settle', body }, readSettlement);
      // What comes back may be what was missing.
      denials.forget(clientId);
      return settlement;
    },
    async describe(clientId) {
      requireOpen();
      const path = `/v1/clients/${pathOf('clientId', clientId)}`;
      return caller.call(clientId, { method: 'GET', path }, readDescription);
    },
    reportLoad,
    watchLoad(policy, watchOptions = {}) {
      if (closed) throw new TokenringError('closed');
      const report = (one: LoadReport): Promise<LoadAnswer> => reportLoad(policy, one);
      const watch = createLoadWatch({ time, report, onStop: () => watches.delete(watch) }, watchOptions);
      watches.add(watch);
      return watch;
    },
    close: () => (closing ??= close()),
  };
}

/** Whose reservation it is, so that the owner is asked; any other node would ask it. */
function clientOf(reservation: string): string {
  return Buffer.from(reservation.split('.', 1)[0]!, 'base64url').toString('utf8');
}

function pathOf(field: string, text: string): string {
  if (typeof text !== 'string' || text === '' || !text.isWellFormed()) throw invalid(field, 'well-formed Unicode');
  // What a path means by dots is not meant.
  return encodeURIComponent(text).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'));
}
