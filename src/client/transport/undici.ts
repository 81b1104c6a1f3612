import type { Agent, Dispatcher } from 'undici';
import type { ReadOptions } from '../options.js';
import { createFetchConnections } from './fetch.js';
import { MAX_ANSWER_BYTES } from './transport.js';
import type { Connections } from './transport.js';

/** Shorter than the node's own 65 s, so that no question meets a connection that the node is closing. */
const KEEP_ALIVE_MS = 60_000;
/** Connections to one node: two for batches, and some for single calls. */
const CONNECTIONS = 6;

/**
 * Makes connections with undici, which costs less than `fetch` and knows certificates. Where undici is not installed,
 * `fetch` serves, unless there are options for certificates. Then each exchange rejects with what to install.
 */
export function createNodeConnections(options: Pick<ReadOptions, 'timeoutMs' | 'tls'>): Connections {
  // With @tokenring/client, undici is an optional peer dependency.
  const opening = import('undici').then(
    (undici) => createUndiciConnections(new undici.Agent(agentOptions(options))),
    () => (options.tls === undefined ? createFetchConnections() : createRefusal()),
  );
  let opened: Connections | undefined;
  void opening.then((connections) => (opened = connections));
  return {
    exchange: async (request) => (opened ?? (await opening)).exchange(request),
    close: async () => (await opening).close(),
  };
}

function createRefusal(): Connections {
  const refuse = (): Promise<never> =>
    Promise.reject(new Error('the option `tls` needs undici; run: npm install undici'));
  return { exchange: refuse, close: () => Promise.resolve() };
}

function agentOptions({ timeoutMs, tls }: Pick<ReadOptions, 'timeoutMs' | 'tls'>): Agent.Options {
  return {
    connections: CONNECTIONS,
    connect: { timeout: timeoutMs, ...tls },
    keepAliveTimeout: KEEP_ALIVE_MS,
    headersTimeout: 0,
    bodyTimeout: 0,
  };
}

function createUndiciConnections(agent: Agent): Connections {
  return {
    async exchange({ body = null, ...request }) {
      const answer = await agent.request({ ...request, body });
      const text = await readText(answer.body);
      const retryAfter = answer.headers['retry-after'];
      return { status: answer.statusCode, retryAfter: typeof retryAfter === 'string' ? retryAfter : undefined, text };
    },
    close: () => agent.destroy(),
  };
}

/** Reads a body by events, as iterating over it costs as much as the rest of a small exchange. */
function readText(body: Dispatcher.ResponseData['body']): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    body.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      // Destroying the body closes the connection.
      if (bytes > MAX_ANSWER_BYTES) body.destroy(new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`));
      else chunks.push(chunk);
    });
    body.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')));
    body.on('error', reject);
  });
}
