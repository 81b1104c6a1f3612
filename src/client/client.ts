import type { LoadReport } from '../limits/request/load-report.js';
import { CLOSED_RETRY_MS } from '../limits/decide/decision.js';
import type { Decision } from '../limits/decide/decision.js';
import { BoundedMap } from '../lib/bounded-map.js';
import { createDenials } from '../limits/decide/denials.js';
import { callsBy } from '../limits/request/limiter.js';
import type { Limiter } from '../limits/request/limiter.js';
import type { AllowRequest } from '../limits/request/request.js';
import { QuestionDispatcher } from './asking/dispatcher.js';
import { Circuit } from './asking/circuit.js';
import { OwnDenials } from './asking/own-denials.js';
import { createCaller } from './asking/caller.js';
import { createTopology } from './topology/topology.js';
import { TokenringError } from '../lib/error.js';
import { createLoadWatch } from './load/load-watch.js';
import type { LoadWatch, LoadWatchOptions } from './load/load-watch.js';
import { createRefresher } from './topology/refresher.js';
import { createRetries } from './asking/retries.js';
import type { ReadOptions } from './options.js';
import { createQuestionWriter, invalid } from './question.js';
import { readDescription, readLoad, readNothing, readSettlement } from './asking/read-answer.js';
import type { LoadAnswer } from './asking/read-answer.js';
import type { Time } from './time.js';
import { createTransport } from './transport/transport.js';
import type { Connections } from './transport/transport.js';
import { createWaiting } from './waiting.js';
import { warnOnce } from './warn-once.js';

/** The code of the process warning that no node answers. */
const WARNING = 'TOKENRING_NO_NODE';

/** A limiter in other processes. It asks the nodes of a cluster. */
export interface Client extends Limiter {
  /**
   * Reports the load of the service that an adaptive policy protects; call it about once a second.
   * @throws TokenringError `not_found` when no policy of this name follows a load
   */
  reportLoad(policy: string, report: LoadReport): Promise<LoadAnswer>;
  /**
   * Measures the service that an adaptive policy protects. Reports once a second until the watch or the client stops.
   * @throws TypeError that names an option that is not valid
   */
  watchLoad(policy: string, options?: LoadWatchOptions): LoadWatch;
}

interface ClientDeps {
  readonly connections: Connections;
  readonly time: Time;
}

/** Creates a client from its connections and its clock. */
export function createClientWith({ connections, time }: ClientDeps, options: ReadOptions): Client {
  const { timeoutMs, maxWaiting, refreshMs, onUnavailable, rememberDenialsMs } = options;
  const transport = createTransport({ connections, time }, options);
  const topology = createTopology(options.nodes, options);
  const circuit = new Circuit(time, topology, () =>
    warnOnce(
      `createClient: no node answers; they are tried again until one does: ${options.nodes.join(', ')}`,
      WARNING,
    ),
  );
  const refresher = createRefresher(
    { transport, topology, circuit, time },
    { refreshMs, timeoutMs, hasToken: options.token !== undefined },
  );
  const onFailure = (): void => refresher.doubt();
  const retries = createRetries(time);
  let idPrefix = '';
  let ids = 0;
  const newId = (): string => {
    // Not earlier: an edge runtime has random numbers only while it answers a request.
    idPrefix ||= randomText();
    return `${idPrefix}${(ids += 1).toString(36)}`;
  };
  const dispatcher = new QuestionDispatcher({
    transport,
    topology,
    retries,
    circuit,
    time,
    newId,
    onFailure,
    timeoutMs,
    maxWaiting,
  });
  const caller = createCaller({ transport, topology, retries, circuit, time, onFailure }, { timeoutMs });
  const ownDenials = new OwnDenials(time, async (clientId, report) => {
    const sent = { method: 'POST', path: '/v1/denials', body: JSON.stringify(report) } as const;
    await caller.call(clientId, sent, readNothing).catch(() => undefined);
  });
  const denials = createDenials(new BoundedMap(options.maxDenials), { longestMs: rememberDenialsMs });
  const write = createQuestionWriter({ remembers: rememberDenialsMs > 0 });
  const wholeMs = (): number => Math.floor(time.nowMs());
  const watches = new Set<LoadWatch>();
  let closed = false;
  let closing: Promise<void> | undefined;

  function requireOpen(): void {
    if (closed) throw new TokenringError('closed');
    refresher.asked();
  }

  function withoutNodes(request: AllowRequest, { retryAfterMs = CLOSED_RETRY_MS }: TokenringError): Decision {
    const allowed = onUnavailable === 'open';
    return {
      allowed,
      limit: request.limit ?? request.limits?.[0]?.limit ?? 0,
      remaining: 0,
      retryAfterMs: allowed ? 0 : retryAfterMs,
      resetMs: 0,
      owner: topology.ownerOf(request.clientId) ?? '',
      source: 'fallback',
      degraded: true,
      limits: undefined,
    };
  }

  function check(request: AllowRequest): Promise<Decision> {
    return new Promise((resolve, reject) => {
      requireOpen();
      const { text, needsId, rules } = write(request);
      const { clientId, cost = 1, peek = false, requestId } = request;
      const question = rules && { clientId, rules, cost, peek, requestId };
      const nowMs = wholeMs();
      const denial = question && denials.recall(question, nowMs);
      if (denial !== undefined) {
        ownDenials.count(request);
        return resolve(denial);
      }
      const asking = denials.asking(nowMs);
      const owner = topology.ownerOf(clientId);
      dispatcher.ask(clientId, owner, text, needsId, (asked) => {
        if (asked.kind === 'decided') {
          const { decision, by } = asked;
          // The ring has changed, and another node owns the client now.
          if (decision.owner !== owner && decision.owner !== topology.ownerOf(clientId)) refresher.doubt(by);
          if (question !== undefined && !decision.allowed) denials.remember(question, decision, asking, wholeMs());
          resolve(decision);
        } else if (asked.kind === 'refused' || onUnavailable === 'throw') reject(asked.error);
        else resolve(withoutNodes(request, asked.error));
      });
    });
  }

  async function reportLoad(policy: string, report: LoadReport): Promise<LoadAnswer> {
    requireOpen();
    const path = `/v1/load/${pathOf('policy', policy)}`;
    return caller.call(policy, { method: 'PUT', path, body: JSON.stringify(report) }, readLoad);
  }

  const waiting = createWaiting({ check, time });

  async function close(): Promise<void> {
    closed = true;
    waiting.close();
    for (const watch of watches) watch.stop();
    refresher.close();
    await Promise.all([dispatcher.idle(), caller.idle(), ownDenials.report()]);
    await connections.close();
  }

  return {
    onUnavailable,
    acquire: waiting.acquire,
    ...callsBy(check),
    async settle(reservation, cost) {
      requireOpen();
      if (typeof reservation !== 'string') throw invalid('reservation', 'a string');
      const body = JSON.stringify({ reservation, cost });
      const clientId = clientOf(reservation);
      const settlement = await caller.call(clientId, { method: 'POST', path: '/v1/settle', body }, readSettlement);
      // The settled cost may leave tokens that the remembered denial lacked.
      denials.forget(clientId);
      return settlement;
    },
    async describe(clientId) {
      requireOpen();
      return caller.call(clientId, { method: 'GET', path: pathOfClient(clientId) }, readDescription);
    },
    async reset(clientId) {
      requireOpen();
      await caller.call(clientId, { method: 'DELETE', path: pathOfClient(clientId) }, readNothing);
      denials.forget(clientId);
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

/** @returns 16 characters with 96 random bits */
function randomText(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_');
}

/**
 * Reads the client of a reservation, so that its owner is asked directly.
 * @returns `''` for a text that is no reservation; a node explains why
 */
function clientOf(reservation: string): string {
  const base64 = reservation.split('.', 1)[0]!.replaceAll('-', '+').replaceAll('_', '/');
  try {
    return new TextDecoder().decode(Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)));
  } catch {
    return '';
  }
}

function pathOfClient(clientId: string): string {
  return `/v1/clients/${pathOf('clientId', clientId)}`;
}

function pathOf(field: string, text: string): string {
  if (typeof text !== 'string' || text === '' || !text.isWellFormed()) throw invalid(field, 'well-formed Unicode');
  // A path with only dots would name another resource.
  return encodeURIComponent(text).replace(/^\.+$/, (dots) => dots.replaceAll('.', '%2E'));
}
