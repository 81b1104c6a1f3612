/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Sends POST /v1/allow at a given rate whatever the answers do (an open loop, in which a slow answer delays no question), and
// measures from when each question was due, as its sender would.
// Arguments: port, requests a second, seconds, clients, seed. Prints one line of JSON.
//
// wrk has no rate, and autocannon keeps one by sending a second's share in one burst; so this generator, on a core of its own,
// spins on the event loop and sends each question when it is due, a few µs late at most. The arrivals are a Poisson process.
import { connect } from 'node:net';

const [port, rate, seconds, clients, seed] = process.argv.slice(2).map(Number);
const CONNECTIONS = 64;
const WARM_UP_MS = 500;

const questions = Array.from({ length: clients }, (_, i) => {
  const body = `{"clientId":"client-${String(i).padStart(13, '0')}","limit":100,"window":"1m"}`;
  return Buffer.from(
    `POST /v1/allow HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${body.length}\r\n\r\n${body}`,
  );
});

const latenciesMs = new Float64Array(Math.ceil(rate * (seconds + 1) * 1.5));
let answered = 0;
let errors = 0;

/** Connections without a question in flight, the one idle longest first. */
const idle = [];
/** When the questions that found no idle connection were due. */
const waiting = [];

// xorshift32: the same seed asks every server the same questions at the same times.
let state = seed || 1;
function random() {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}

function ask(connection, dueMs) {
  connection.dueMs = dueMs;
  connection.socket.write(questions[Math.floor(random() * clients)]);
}

function onAnswer(connection) {
  const text = connection.pending;
  const headEnd = text.indexOf('\r\n\r\n');
  if (headEnd < 0) return;
  const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
  if (text.length < headEnd + 4 + length) return;
  connection.pending = '';
  if (!text.startsWith('HTTP/1.1 200') && !text.startsWith('HTTP/1.1 429')) errors += 1;
  if (connection.dueMs >= countFromMs) {
    latenciesMs[answered] = performance.now() - connection.dueMs;
    answered += 1;
  }
  const dueMs = waiting.shift();
  if (dueMs === undefined) idle.push(connection);
  else ask(connection, dueMs);
}

await Promise.all(
  Array.from({ length: CONNECTIONS }, () => {
    const socket = connect({ port, host: '127.0.0.1', noDelay: true });
    const connection = { socket, pending: '', dueMs: 0 };
    socket.setEncoding('latin1');
    socket.on('data', (text) => {
      connection.pending += text;
      onAnswer(connection);
    });
    socket.on('error', () => (errors += 1));
    return new Promise((resolve) => {
      socket.on('connect', () => {
        idle.push(connection);
        resolve(undefined);
      });
    });
  }),
);

let dueMs = performance.now();
const countFromMs = dueMs + WARM_UP_MS;
const endMs = countFromMs + seconds * 1000;

function spin() {
  const nowMs = performance.now();
  while (dueMs <= nowMs && dueMs < endMs) {
    const connection = idle.shift();
    if (connection === undefined) waiting.push(dueMs);
    else ask(connection, dueMs);
    dueMs += (-Math.log(1 - random()) / rate) * 1000;
  }
  if (dueMs < endMs || (idle.length < CONNECTIONS && nowMs < endMs + 5_000)) setImmediate(spin);
  else report();
}

function report() {
  const sorted = latenciesMs.subarray(0, answered).sort();
  const quantile = (q) => sorted[Math.min(answered - 1, Math.floor(q * answered))];
  const unanswered = CONNECTIONS - idle.length + waiting.length;
  const result = { answered, errors: errors + unanswered, p50Ms: quantile(0.5), p99Ms: quantile(0.99) };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

spin();
