import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Decision } from '../cluster/decision.js';
import type { Limiter } from '../cluster/limiter.js';
import type { Check } from '../core/decide.js';
import { decisionJson, pushRateLimitHeaders } from './answer.js';
import { readJsonBody } from './body.js';
import { countDuration, countProblem } from './counters.js';
import type { Counters } from './counters.js';
import { parseJson } from './json.js';
import { Problem } from './problem.js';
import { readBatch, readCheck } from './request.js';
import { sendJson, sendProblem } from './send.js';

const MAX_ALLOW_BYTES = 64 * 1024;
const MAX_BATCH_BYTES = 1024 * 1024;

export type Handler = (req: IncomingMessage, res: ServerResponse) => void;

export interface DecisionHandlers {
  readonly allow: Handler;
  readonly batch: Handler;
  /** Requests that have no answer yet. */
  readonly unanswered: ReadonlySet<ServerResponse>;
}

/**
 * `POST /v1/allow` and `POST /v1/allow/batch`, as plain node:http handlers: the server calls them without Express, whose
 * router and parser cost six times the decision, and the Express app mounts the same two.
 */
export function createDecisionHandlers(
  { limiter, counters, elapsedMs }: { limiter: Limiter; counters: Counters; elapsedMs: () => number },
  options: { deniedStatus: 200 | 429 },
): DecisionHandlers {
  const unanswered = new Set<ServerResponse>();

  function endpoint(maxBytes: number, respond: (value: unknown, done: (send: Send) => void) => void): Handler {
    return (req, res) => {
      const start = elapsedMs();
      unanswered.add(res);
      counters.inFlight += 1;
      res.on('close', () => {
        unanswered.delete(res);
        counters.inFlight -= 1;
      });
      const fail = (problem: Problem): void => {
        countProblem(counters, problem.code);
        sendProblem(req, res, problem);
      };
      if (req.method !== 'POST') return fail(new Problem('method_not_allowed', { expected: 'POST' }));
      readJsonBody(
        req,
        maxBytes,
        (body) => {
          try {
            respond(parseJson(body), (send) => {
              send(res);
              countDuration(counters, (elapsedMs() - start) / 1000);
            });
          } catch (error) {
            fail(error instanceof Problem ? error : new Problem('internal', {}, { cause: error }));
          }
        },
        fail,
      );
    };
  }

  function count(decision: Decision): void {
    (decision.allowed ? counters.allowed : counters.denied)[decision.source] += 1;
  }

  function sendDecision(res: ServerResponse, check: Check, decision: Decision): void {
    count(decision);
    const body = decisionJson(decision);
    const headers = ['Content-Type', 'application/json', 'Content-Length', String(Buffer.byteLength(body))];
    pushRateLimitHeaders(headers, check, decision);
    res.writeHead(decision.allowed ? 200 : options.deniedStatus, headers);
    res.end(body);
  }

  /** One item of a batch: its own mistake is its own answer. */
  function decideItem(item: unknown): string | Promise<string> {
    let decision: Decision | Promise<Decision>;
    try {
      decision = limiter.check(readCheck(item));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      countProblem(counters, error.code);
      return JSON.stringify({ error });
    }
    if (decision instanceof Promise) return decision.then(itemJson);
    return itemJson(decision);
  }

  function itemJson(decision: Decision): string {
    count(decision);
    return decisionJson(decision);
  }

  return {
    unanswered,
    allow: endpoint(MAX_ALLOW_BYTES, (value, done) => {
      const check = readCheck(value);
      const decision = limiter.check(check);
      if (decision instanceof Promise) void decision.then((later) => done((res) => sendDecision(res, check, later)));
      else done((res) => sendDecision(res, check, decision));
    }),
    batch: endpoint(MAX_BATCH_BYTES, (value, done) => {
      const results = readBatch(value).map(decideItem);
      const answer = (texts: readonly string[]): void =>
        done((res) => sendJson(res, `{"results":[${texts.join(',')}]}`));
      if (results.some((result) => typeof result !== 'string'))
        void Promise.all(results.map((result) => Promise.resolve(result))).then(answer);
      else answer(results as string[]);
    }),
  };
}

type Send = (res: ServerResponse) => void;
