import { createHistogram } from 'node:perf_hooks';
import autocannon, { type Client, type Request } from 'autocannon';
import { clientId, createDraw } from './clients.js';
import type { LoadOptions } from './options.js';

export interface LoadResult {
  readonly seconds: number;
  readonly requests: number;
  readonly allowed: number;
  readonly denied: number;
  /** Broken connections and timeouts. */
  readonly errors: number;
  /** Answers with a status that is neither 2xx nor 429. */
  readonly unexpected: number;
  /** Of one request, from its first byte out to its answer's last byte in. */
  readonly latencyMs: {
    readonly p50: number;
    readonly p90: number;
    readonly p99: number;
    readonly p999: number;
    readonly max: number;
  };
}

/** Requests made in advance, over all connections: enough that going round again is no pattern a server could profit from. */
const PREPARED_DECISIONS = 2 ** 18;
const TIMEOUT_SECONDS = 10;

/** Drives the nodes for as long as the options say. */
export async function generateLoad(options: LoadOptions): Promise<LoadResult> {
  const { urls, connections, durationSeconds } = options;
  const prepare = createPreparation(options);
  const latencyMicros = createHistogram();
  let startMs = 0;
  let requests = 0;
  let unexpected = 0;
  let allowed = 0;
  let denied = 0;
  const { errors, endMs } = await new Promise<{ errors: number; endMs: number }>((resolve, reject) => {
    const tracker = autocannon(
      {
        url: urls,
        connections,
        duration: durationSeconds,
        timeout: TIMEOUT_SECONDS,
        // Each connection goes round a list of its own, made beforehand: autocannon's way to make a request when it is due
        // costs more than sending it.
        setupClient: (client) => client.setRequests(prepare()),
        verifyBody(body) {
          // A batch has many; the outcome is read here, not from the status, as a denial may be told to answer 200.
          for (let at = body.indexOf(OUTCOME); at >= 0; at = body.indexOf(OUTCOME, at + OUTCOME.length)) {
            if (body.charCodeAt(at + OUTCOME.length) === TRUE) allowed += 1;
            else denied += 1;
          }
          return true;
        },
      },
      (error, result) => {
        if (error === null) resolve({ errors: result.errors, endMs: performance.now() });
        else reject(error);
      },
    );
    tracker.on('start', () => (startMs = performance.now()));
    // While the lists of the later connections are made, the first answers of the earlier ones wait to be read.
    const warm = new WeakSet<Client>();
    tracker.on('response', (client: Client, status: number, _bytes: number, ms: number) => {
      requests += 1;
      if (status !== 429 && (status < 200 || status > 299)) unexpected += 1;
      if (!warm.has(client)) return void warm.add(client);
      latencyMicros.record(Math.max(1, Math.round(ms * 1000)));
    });
  });
  const quantile = (percent: number): number =>
    latencyMicros.count === 0 ? 0 : latencyMicros.percentile(percent) / 1000;
  return {
    seconds: (endMs - startMs) / 1000,
    requests,
    allowed,
    denied,
    errors,
    unexpected,
    latencyMs: {
      p50: quantile(50),
      p90: quantile(90),
      p99: quantile(99),
      p999: quantile(99.9),
      max: quantile(100),
    },
  };
}

const OUTCOME = '"allowed":';
const TRUE = 't'.charCodeAt(0);

/** Makes, at each call, the requests of one more connection. */
function createPreparation(options: LoadOptions): () => Request[] {
  const { connections, clients, popularity, limit, window, batch } = options;
  const draw = createDraw(clients, popularity);
  const question = () => ({ clientId: clientId(draw()), limit, window });
  const path = batch === undefined ? '/v1/allow' : '/v1/allow/batch';
  const count = Math.max(8, Math.ceil(PREPARED_DECISIONS / (batch ?? 1) / connections));
  return () =>
    Array.from({ length: count }, () => ({
      method: 'POST',
      path,
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(batch === undefined ? question() : { requests: Array.from({ length: batch }, question) }),
    }));
}
