import type { LoadReport, AllowRequest } from '../limits/request/request.js';
import { decisionBy, verdictOnAll, type Decision } from '../limits/decide/decision.js';
import { BoundedMap } from './bounded-map.js';
import { Denials } from '../limits/decide/denials.js';
import { LimiterMethods, type Limiter } from '../limits/request/limiter.js';
import { TokenringError } from '../lib/error.js';
import { isWhole } from '../lib/mistake.js';
import { MAX_COST } from '../limits/bucket/rule.js';
import { AcquireQueue } from './acquire-queue.js';
import { QuestionDispatcher } from './dispatcher.js';
import { ServiceLoadWatch, type LoadWatch, type LoadWatchOptions } from './load-watch.js';
import { readDescription, readLoad, readNothing, readSettlement, type LoadAnswer } from './nodes/answers.js';
import { Cluster } from './nodes/cluster.js';
import type { Connections } from './nodes/transport.js';
import type { ReadClientOptions } from './options.js';
import { OwnDenials } from './own-denials.js';
import { invalid, jsonOf, rulesOf } from './question.js';
import type { Time } from './runtime.js';

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

/** The client over given connections and a given clock. */
export class ClusterClient extends LimiterMethods implements Client {
  readonly onUnavailable: ReadClientOptions['onUnavailable'];
  private readonly cluster: Cluster;
  private readonly dispatcher: QuestionDispatcher;
  private readonly acquireQueue: AcquireQueue;
  private readonly remembers: boolean;
  private readonly denials: Denials;
  private readonly ownDenials: OwnDenials;
  private readonly watches = new Set<LoadWatch>();
  private closed = false;
  private closing: Promise<void> | undefined;

  constructor(
    private readonly connections: Connections,
    private readonly time: Time,
    options: ReadClientOptions,
  ) {
    super();
    const { rememberDenialsMs } = options;
    this.onUnavailable = options.onUnavailable;
    this.cluster = new Cluster(connections, time, options);
    this.dispatcher = new QuestionDispatcher(this.cluster, time, options);
    this.acquireQueue = new AcquireQueue((request) => this.check(request), time);
    this.remembers = rememberDenialsMs > 0;
    this.denials = new Denials(new BoundedMap(options.maxDenials), rememberDenialsMs);
    this.ownDenials = new OwnDenials(time, async (clientId, report) => {
      const request = { method: 'POST', path: '/v1/denials', body: JSON.stringify(report) } as const;
      await this.dispatcher.call(clientId, request, readNothing).catch(() => undefined);
    });
  }

  readonly check: Limiter['check'] = (request) =>
    new Promise((resolve, reject) => {
      this.requireOpen();
      const text = jsonOf(request);
      const { clientId, cost = 1, peek = false, requestId } = request;
      const rules = this.remembers && isWhole(cost, 1, MAX_COST) ? rulesOf(request) : undefined;
      const question = rules && { clientId, rules, cost, peek, requestId };
      const nowMs = this.wholeMs();
      const denial = question && this.denials.recall(question, nowMs);
      if (denial !== undefined) {
        this.ownDenials.count(request);
        return resolve(denial);
      }
      const { topology } = this.cluster;
      const asking = this.denials.asking(nowMs);
      const owner = topology.ownerOf(clientId);
      const needsId = requestId === undefined && !peek;
      this.dispatcher.check(clientId, owner, text, needsId, (outcome) => {
        if (outcome.kind === 'answered') {
          const { value: decision, by } = outcome;
          // The ring has changed, and another node owns the client now.
          if (decision.owner !== owner && decision.owner !== topology.ownerOf(clientId)) this.cluster.doubt(by);
          if (question !== undefined && !decision.allowed)
            this.denials.remember(question, decision, asking, this.wholeMs());
          resolve(decision);
        } else if (outcome.kind === 'refused' || this.onUnavailable === 'throw') reject(outcome.error);
        else resolve(this.withoutNodes(request, outcome.error));
      });
    });

  readonly acquire: Limiter['acquire'] = (request, options) => this.acquireQueue.acquire(request, options);

  readonly settle: Limiter['settle'] = async (reservation, cost) => {
    this.requireOpen();
    if (typeof (reservation as unknown) !== 'string') throw invalid('reservation', 'a string');
    const body = JSON.stringify({ reservation, cost });
    const clientId = clientOf(reservation);
    const settlement = await this.dispatcher.call(
      clientId,
      { method: 'POST', path: '/v1/settle', body },
      readSettlement,
    );
    // The settled cost may leave tokens that the remembered denial lacked.
    this.denials.forget(clientId);
    return settlement;
  };

  readonly describe: Limiter['describe'] = async (clientId) => {
    this.requireOpen();
    return this.dispatcher.call(clientId, { method: 'GET', path: pathOfClient(clientId) }, readDescription);
  };

  readonly reset: Limiter['reset'] = async (clientId) => {
    this.requireOpen();
    await this.dispatcher.call(clientId, { method: 'DELETE', path: pathOfClient(clientId) }, readNothing);
    this.denials.forget(clientId);
  };

  readonly reportLoad: Client['reportLoad'] = async (policy, report) => {
    this.requireOpen();
    const path = `/v1/load/${pathOf('policy', policy)}`;
    return this.dispatcher.call(policy, { method: 'PUT', path, body: JSON.stringify(report) }, readLoad);
  };

  readonly watchLoad: Client['watchLoad'] = (policy, options = {}) => {
    if (this.closed) throw new TokenringError('closed');
    const watch = new ServiceLoadWatch({
      time: this.time,
      report: (report) => this.reportLoad(policy, report),
      onStop: () => this.watches.delete(watch),
      options,
    });
    this.watches.add(watch);
    return watch;
  };

  readonly close: Limiter['close'] = () => (this.closing ??= this.closeOnce());

  private async closeOnce(): Promise<void> {
    this.closed = true;
    this.acquireQueue.close();
    for (const watch of this.watches) watch.stop();
    this.cluster.stop();
    await Promise.all([this.dispatcher.idle(), this.ownDenials.report()]);
    await this.connections.close();
  }

  private requireOpen(): void {
    if (this.closed) throw new TokenringError('closed');
    this.cluster.asked();
  }

  private wholeMs(): number {
    return Math.floor(this.time.nowMs());
  }

  private withoutNodes(request: AllowRequest, { retryAfterMs }: TokenringError): Decision {
    const owner = this.cluster.topology.ownerOf(request.clientId) ?? '';
    const verdict = verdictOnAll(rulesOf(request) ?? [], this.onUnavailable === 'open', retryAfterMs);
    return decisionBy({ owner, source: 'fallback', degraded: true }, verdict, verdict.limits);
  }
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
