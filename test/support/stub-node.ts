import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { AllowRequest } from '../../src/limits/request/request.js';

export interface Batch {
  readonly requestId: string | undefined;
  readonly requests: readonly AllowRequest[];
  /** What a node would send for it. */
  answer(...decisions: readonly object[]): void;
  readonly res: ServerResponse;
}

/** Something that listens where a node may be: what it says is the test's. */
export interface StubNode {
  readonly url: string;
  /** Batches that have come, those that were answered included. */
  readonly batches: Batch[];
  readonly looks: number;
  /** The `Authorization` header of each request. */
  readonly authorizations: readonly (string | undefined)[];
  close(): Promise<void>;
}

export interface StubOptions {
  /** Called with each batch; default: all allowed. */
  readonly decide?: (batch: Batch) => void;
  /** What it says of the cluster; default: 404. */
  readonly cluster?: () => object;
  /** What it answers to a look at the cluster without a token. */
  readonly guard?: { readonly status: number };
}

export const ALLOWED = {
  allowed: true,
  limit: 10,
  remaining: 9,
  retryAfterMs: 0,
  resetMs: 100,
  owner: 'stub:1',
  source: 'owner',
  degraded: false,
} as const satisfies Omit<Decision, 'limits'>;

export const DENIED = { ...ALLOWED, allowed: false, remaining: 0, retryAfterMs: 400, resetMs: 1_000 } as const;

export async function startStubNode({ decide, cluster, guard }: StubOptions = {}): Promise<StubNode> {
  const batches: Batch[] = [];
  let looks = 0;
  const authorizations: (string | undefined)[] = [];
  const server = createServer((req, res) => void answer(req, res));
  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    authorizations.push(req.headers.authorization);
    let text = '';
    for await (const chunk of req) text += String(chunk);
    const send = (status: number, value: object): void =>
      void res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (req.url === '/v1/cluster') {
      looks += 1;
      if (guard !== undefined && req.headers.authorization === undefined) return send(guard.status, guard);
      const told = cluster?.();
      return told === undefined ? send(404, {}) : send(200, told);
    }
    if (req.url === '/v1/denials') return void res.writeHead(204).end();
    const { requestId, requests } = JSON.parse(text) as { requestId?: string; requests: AllowRequest[] };
    const batch: Batch = {
      requestId,
      requests,
      answer: (...decisions) => send(200, { results: requests.map((_, i) => decisions[i % decisions.length]!) }),
      res,
    };
    batches.push(batch);
    if (decide === undefined) batch.answer(ALLOWED);
    else decide(batch);
  }
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    batches,
    authorizations,
    get looks() {
      return looks;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
