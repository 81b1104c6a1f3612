import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TokenringError } from '../../lib/error.js';
import type { Counters } from '../edge/counters.js';
import { BROWSER_HEADERS, problemHeaders, closingIfUnread } from './send.js';

/** An answer to a health check. */
interface HealthAnswer {
  readonly status: number;
  /** Alternating names and values. */
  readonly headers: readonly string[];
  readonly body: string;
}

const ALIVE = textAnswer('ok\n');
const READY = textAnswer('ready\n');

/** Answers `/healthz` and `/readyz` from memory. They say whether to restart this node, so they never get "overloaded". */
export class Health {
  /** @param unready why the node is not ready; `undefined` if it is */
  constructor(
    private readonly counters: Counters,
    private readonly unready: () => TokenringError | undefined,
  ) {}

  /** Whether this is the address of a health check. */
  static isAt(path: string): path is HealthPath {
    return path === '/healthz' || path === '/readyz';
  }

  answer(path: HealthPath): HealthAnswer {
    const problem = path === '/healthz' ? undefined : this.unready();
    if (problem === undefined) return path === '/healthz' ? ALIVE : READY;
    this.counters.countProblem(problem.code);
    const body = JSON.stringify(problem);
    return { status: problem.status, headers: [...BROWSER_HEADERS, ...problemHeaders(problem, body)], body };
  }

  /** Answers a GET or HEAD. */
  send(path: HealthPath, req: IncomingMessage, res: ServerResponse): void {
    const { status, headers, body } = this.answer(path);
    res.writeHead(status, closingIfUnread(req, [...headers]));
    res.end(req.method === 'HEAD' ? undefined : body);
  }
}

export type HealthPath = '/healthz' | '/readyz';

function textAnswer(body: string): HealthAnswer {
  const headers = ['Content-Type', 'text/plain; charset=utf-8', 'Content-Length', String(body.length)];
  return { status: 200, headers: [...BROWSER_HEADERS, ...headers], body };
}
