/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// A ring in this process, over an in-memory transport that encodes and decodes every message. Asks its first node in
// batches. Arguments: the folder of the built package, nodes, decisions in a batch, seconds of CPU.
// Prints one line of JSON: CPU µs of this process per decision.
import { pathToFileURL } from 'node:url';

const [dist, nodeCount, batch, seconds] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${dist}/${path}`).href);
const { ClusterNode } = await load('node/node.js');
const { systemClock, systemTimers } = await load('lib/system.js');
const { ByteWriter } = await load('lib/byte-writer.js');
const { decodeAnswer, decodeMessage, writeAnswer, writeMessage } = await load('protocol/format/messages.js');
const { finish } = await load('lib/turns.js');
const { BatchReader } = await load('server/validate/batch-reader.js');
const { WITHOUT_POLICIES } = await load('policy/active-policies.js');

const CLIENTS = 100_000;
const WARM_UP_SECONDS = 4;
const ids = Array.from({ length: Number(nodeCount) }, (_, i) => `10.0.0.${i + 1}:9080`);
const nodes = new Map();
const out = new ByteWriter();

/** Encodes into memory that is used again, as a link does, and copies, as its socket does. */
function encode(write, value) {
  out.clear();
  write(out, value);
  return Buffer.from(out.bytes.subarray(0, out.length));
}

const transport = {
  async send(to, message) {
    const node = nodes.get(to);
    if (node === undefined) return { kind: 'refused' };
    const answer = await node.receive(decodeMessage(encode(writeMessage, message)));
    return { kind: 'answer', answer: decodeAnswer(encode(writeAnswer, answer)) };
  },
};
const log = { info: () => undefined, warn: () => undefined };
for (const self of ids) {
  const deps = { clock: systemClock, timers: systemTimers, transport, log, discovery: { seeds: async () => ids } };
  const options = { self, version: '0', maxClients: 1_000_000, replicas: 1, replicationIntervalMs: 50 };
  const node = new ClusterNode(deps, { ...options, suspectAfterMs: 5_000, onUnavailable: 'closed' });
  nodes.set(self, node);
  await node.start();
}

const entry = nodes.get(ids[0]);
const names = Array.from({ length: CLIENTS }, (_, i) => `client-${String(i).padStart(13, '0')}`);
const reader = new BatchReader(WITHOUT_POLICIES);
let next = 0;

function nextItem() {
  next = (next + 7_919) % CLIENTS;
  return { clientId: names[next], limit: 100, window: '1m' };
}

/** The bodies of requests, made in advance: each client once. */
const bodies = Array.from({ length: CLIENTS / Number(batch) }, () =>
  Buffer.from(JSON.stringify({ requests: Array.from({ length: Number(batch) }, nextItem) })),
);
let nextBody = 0;

/** A batch as the HTTP edge reads it. */
function nextBatch() {
  nextBody = (nextBody + 1) % bodies.length;
  const unread = reader.begin(bodies[nextBody]);
  finish(unread.reading());
  return unread.batch;
}

/** Counts CPU instead of time, so that a busy machine measures code that is as warm. */
async function run(forSeconds) {
  const before = process.cpuUsage();
  let decisions = 0;
  let usedUs = 0;
  while (usedUs < forSeconds * 1e6) {
    await entry.checks.decide(nextBatch());
    decisions += Number(batch);
    await new Promise((resolve) => setImmediate(resolve));
    const { user, system } = process.cpuUsage(before);
    usedUs = user + system;
  }
  return usedUs / decisions;
}

await run(WARM_UP_SECONDS);
const cpuMicros = await run(Number(seconds));
process.stdout.write(`${JSON.stringify({ cpuMicros })}\n`, () => process.exit(0));
