import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Limiter } from '../../cluster/decide/limiter.js';
import { WITHOUT_POLICIES } from '../../cluster/policies/active-policies.js';
import type { Policies } from '../../cluster/policies/active-policies.js';
import type { Check } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import { rateLimitHeaders } from '../../core/rate-limit-headers.js';
import { MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../../core/request.js';
import type { Access } from '../access/access.js';
import { asciiJson, decisionJson, gatewayJson } from './answer.js';
import { readJsonBody } from '../body.js';
import { countDuration, countProblem } from '../metrics/counters.js';
import type { Counters } from '../metrics/counters.js';
import { GATEWAYS, readGatewayCheck } from './gateway.js';
import type { Gateway, GatewayName } from './gateway.js';
import { parseJson } from '../../validate/json.js';
import { TokenringError } from '../../core/error.js';
import { readBatch, readCheck } from '../../validate/request.js';
import { sendAsciiJson, sendProblem, withoutTheRest } from '../send.js';

/** Of all bodies that have not come whole. */
const MAX_ARRIVING_BYTES = 64 * 1024 * 1024;

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

export interface DecisionHandlers {
  readonly allow: Handler;
  readonly batch: Handler;
  /** `/v1/check/…`: whatever of the address is the gateway's caller's, and the body, are not looked at. */
  readonly check: Readonly<Record<GatewayName, Handler>>;
}

/** Where causes go that are not for the caller. Never the id of a client. */
export interface ErrorLog {
  error(fields: object, message: string): void;
}

interface DecisionDeps {
  readonly limiter: Pick<Limiter, 'check'>;
  readonly access: Access;
  /** Those that requests may name. Default: none. */
  readonly policies?: Policies;
  readonly counters: Counters;
  readonly elapsedMs: () => number;
  readonly log: ErrorLog;
}

/**
 * `POST /v1/allow`, `POST /v1/allow/batch` and `/v1/check/…`, as plain node:http handlers: the server calls them without
 * Express, whose router and parser cost six times the decision, and the Express app mounts the same.
 */
export function createDecisionHandlers(
  { limiter, policies = WITHOUT_POLICIES, access, counters, elapsedMs, log }: DecisionDeps,
  options: { deniedStatus: 200 | 429; maxInFlight: number },
): DecisionHandlers {
  /** Answers at once, or when the promise settles. */
  type Answer = (value: unknown, res: ServerResponse, startMs: number) => Promise<void> | undefined;

  const arriving = { bytes: 0, maxBytes: MAX_ARRIVING_BYTES };
  /** Requests that wait for other nodes. Not those that are still arriving: who is slow to ask must not shut others out. */
  let waiting = 0;
  const gone = (): void => {
    counters.inFlight -= 1;
  };

  type Fail = (error: unknown) => void;

  /**
   * Takes a request on, by its headers.
   * @returns what answers that it failed; `undefined` where it has: too many wait, another method, no token
   */
  function take(
    req: IncomingMessage,
    res: ServerResponse,
    method: string | undefined,
    gateway?: Gateway,
  ): Fail | undefined {
    counters.inFlight += 1;
    const fail = (error: unknown): void => {
      const problem = error instanceof TokenringError ? error : new TokenringError('internal', {}, { cause: error });
      if (problem.code === 'internal') log.error({ err: error }, 'a decision failed');
      counters.inFlight -= 1;
      countProblem(counters, problem.code);
      sendProblem(req, res, problem);
    };
    try {
      if (waiting >= options.maxInFlight)
        throw new TokenringError('overloaded', { detail: 'too many requests are in flight' });
      if (method !== undefined && req.method !== method && !(method === 'GET' && req.method === 'HEAD'))
        throw new TokenringError('method_not_allowed', { expected: method === 'GET' ? 'GET, HEAD' : method });
      if (access.guardsDecisions) admit(req, gateway);
    } catch (error) {
      fail(error);
      return undefined;
    }
    return fail;
  }

  function admit({ headers }: IncomingMessage, gateway: Gateway | undefined): void {
    try {
      access.admit(headers.authorization, 'decide');
    } catch (error) {
      if (gateway === undefined || !(error instanceof TokenringError)) throw error;
      // Its caller would be shown a 401 or 403, or be taken for denied.
      throw new TokenringError(
        'gateway_unauthorized',
        { field: error.field, expected: error.expected },
        { cause: error },
      );
    }
  }

  /** Counts a request among those that wait for other nodes, until it is answered. */
  function waitFor(later: Promise<void> | undefined, fail: Fail): void {
    if (later === undefined) return;
    waiting += 1;
    later.catch(fail).finally(() => (waiting -= 1));
  }

  function receive(req: IncomingMessage, res: ServerResponse, maxBytes: number, answer: Answer): void {
    const startMs = elapsedMs();
    const fail = take(req, res, 'POST');
    if (fail === undefined) return;
    readJsonBody(
      req,
      maxBytes,
      (body) => {
        try {
          waitFor(answer(parseJson(body), res, startMs), fail);
        } catch (error) {
          fail(error);
        }
      },
      fail,
      gone,
      arriving,
    );
  }

  function receiveHeaders(req: IncomingMessage, res: ServerResponse, gateway: Gateway): void {
    const startMs = elapsedMs();
    const fail = take(req, res, gateway.method, gateway);
    if (fail === undefined) return;
    try {
      const check = readGatewayCheck(req, policies);
      const send = (decision: Decision): void => sendToGateway(req, res, gateway, check, decision, startMs);
      const decision = limiter.check(check);
      if (decision instanceof Promise) waitFor(decision.then(send), fail);
      else send(decision);
    } catch (error) {
      fail(error);
    }
  }

  function answered(startMs: number): void {
    counters.inFlight -= 1;
    countDuration(counters, (elapsedMs() - startMs) / 1000);
  }

  function count(decision: Decision): void {
    (decision.allowed ? counters.allowed : counters.denied)[decision.source] += 1;
  }

  function sendDecision(res: ServerResponse, check: Check, decision: Decision, startMs: number): void {
    count(decision);
    const body = decisionJson(decision);
    sendAsciiJson(res, decision.allowed ? 200 : options.deniedStatus, body, rateLimitHeaders(check, decision));
    answered(startMs);
  }

  function sendToGateway(
    req: IncomingMessage,
    res: ServerResponse,
    { deniedStatus, showsBody }: Gateway,
    check: Check,
    decision: Decision,
    startMs: number,
  ): void {
    count(decision);
    const headers = withoutTheRest(req, ['Cache-Control', 'no-store', ...rateLimitHeaders(check, decision)]);
    const status = decision.allowed ? 200 : deniedStatus;
    if (showsBody) sendAsciiJson(res, status, gatewayJson(decision), headers);
    else res.writeHead(status, ['Content-Length', '0', ...headers]).end();
    answered(startMs);
  }

  /** One item of a batch: its own mistake is its own answer. */
  function decideItem(item: unknown): string | Promise<string> {
    let decision: Decision | Promise<Decision>;
    try {
      decision = limiter.check(readCheck(item, policies));
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      countProblem(counters, error.code);
      return asciiJson({ error });
    }
    return decision instanceof Promise ? decision.then(itemJson) : itemJson(decision);
  }

  function itemJson(decision: Decision): string {
    count(decision);
    return decisionJson(decision);
  }

  function answerCheck(value: unknown, res: ServerResponse, startMs: number): Promise<void> | undefined {
    const check = readCheck(value, policies);
    const decision = limiter.check(check);
    if (decision instanceof Promise) return decision.then((later) => sendDecision(res, check, later, startMs));
    sendDecision(res, check, decision, startMs);
    return undefined;
  }

  function answerBatch(value: unknown, res: ServerResponse, startMs: number): Promise<void> | undefined {
    const results = readBatch(value).map(decideItem);
    const send = (texts: readonly string[]): void => {
      sendAsciiJson(res, 200, `{"results":[${texts.join(',')}]}`, []);
      answered(startMs);
    };
    if (results.some((result) => typeof result !== 'string'))
      return Promise.all(results.map((result) => Promise.resolve(result))).then(send);
    send(results as string[]);
    return undefined;
  }

  return {
    allow: (req, res) => receive(req, res, MAX_REQUEST_BYTES, answerCheck),
    batch: (req, res) => receive(req, res, MAX_BATCH_BYTES, answerBatch),
    check: {
      nginx: (req, res) => receiveHeaders(req, res, GATEWAYS.nginx),
      traefik: (req, res) => receiveHeaders(req, res, GATEWAYS.traefik),
      envoy: (req, res) => receiveHeaders(req, res, GATEWAYS.envoy),
    },
  };
}
