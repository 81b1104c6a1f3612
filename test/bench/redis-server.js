/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// The peer of the ring: node:http with rate-limiter-flexible on Valkey, through ioredis with automatic pipelining.
// It reads, decides, and answers the same request as a node, in the form that costs node:http least.
// Argument: port of Valkey.
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { RateLimiterRedis, RateLimiterRes } from 'rate-limiter-flexible';

const WINDOW_SECONDS = 60;
const LIMIT = 100;

const storeClient = new Redis({ host: '127.0.0.1', port: Number(process.argv[2]), enableAutoPipelining: true });
const limiter = new RateLimiterRedis({ storeClient, points: LIMIT, duration: WINDOW_SECONDS });

/** @param {import('node:http').ServerResponse} res */
function answer(res, allowed, { remainingPoints, msBeforeNext }) {
  const retryAfterMs = allowed ? 0 : msBeforeNext;
  const body =
    `{"allowed":${allowed},"limit":${LIMIT},"remaining":${remainingPoints},"retryAfterMs":${retryAfterMs},` +
    `"resetMs":${msBeforeNext},"owner":"valkey","source":"owner","degraded":false}`;
  const headers = ['Content-Type', 'application/json', 'Content-Length', String(body.length)];
  headers.push('RateLimit-Policy', `"default";q=${LIMIT};w=${WINDOW_SECONDS}`);
  headers.push('RateLimit', `"default";r=${remainingPoints};t=${Math.ceil(msBeforeNext / 1000)}`);
  res.writeHead(allowed ? 200 : 429, headers);
  res.write(body, 'latin1');
  res.socket?.uncork();
  res.end();
}

const server = createServer({ keepAliveTimeout: 65_000 }, (req, res) => {
  /** @type {Buffer[]} */
  const chunks = [];
  req.on('data', (chunk) => chunks.push(chunk));
  req.on('end', () => {
    const { clientId } = JSON.parse((chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)).toString());
    limiter.consume(clientId).then(
      (result) => answer(res, true, result),
      (reason) => {
        if (!(reason instanceof RateLimiterRes)) throw reason;
        answer(res, false, reason);
      },
    );
  });
});

server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', port: server.address().port })}\n`);
});
