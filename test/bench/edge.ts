/**
 * `npx tsx test/bench/edge.ts`: the CPU of a batch of 100 in this process, in µs per item, without sockets: reading it
 * alone, reading and deciding it, and all with the answer. `general` reads it by the general way, as a batch of many
 * different items. Each is the lowest tenth of short measurements, since other work on the machine only adds.
 */
import { finish } from '../../src/lib/turns.js';
import { ClusterNode } from '../../src/node/node.js';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import { JsonDecisionWriter } from '../../src/server/http/decisions/decision-writer.js';
import { Counters } from '../../src/server/edge/counters.js';
import { systemClock, systemTimers } from '../../src/lib/system.js';
import { BatchReader } from '../../src/server/validate/batch-reader.js';
import { parseJson } from '../../src/server/validate/json.js';
import { readBatch, readCheck } from '../../src/server/validate/request.js';
import { clientId } from '../load/clients.js';

const CLIENTS = 100_000;
const BATCH = 100;
/** Batches of one measurement, and how many a turn of the event loop handles. */
const MEASURED = 64;
const A_TURN = 4;
const SECONDS = 3;

const log = { info: () => undefined, warn: () => undefined };
const transport = { send: () => Promise.resolve({ kind: 'refused' } as const) };
const discovery = { seeds: () => Promise.resolve([]) };
const node = new ClusterNode(
  { clock: systemClock, timers: systemTimers, transport, log, discovery },
  {
    self: '127.0.0.1:9080',
    version: '0',
    maxClients: 1_000_000,
    replicas: 1,
    replicationIntervalMs: 50,
    suspectAfterMs: 1_000,
    onUnavailable: 'closed',
  },
);
const reader = new BatchReader(WITHOUT_POLICIES);
const writer = new JsonDecisionWriter(new Counters());
const bodies = Array.from({ length: CLIENTS / BATCH }, () => {
  const item = (): object => ({ clientId: clientId(Math.floor(Math.random() * CLIENTS)), limit: 10_000, window: '1m' });
  return Buffer.from(JSON.stringify({ requests: Array.from({ length: BATCH }, item) }));
});

function read(body: Buffer): CheckBatch {
  const unread = reader.begin(body);
  finish(unread.reading());
  return unread.batch;
}

function readGenerally(body: Buffer): CheckBatch {
  return CheckBatch.of(readBatch(parseJson(body)).requests.map((item) => readCheck(item)));
}

function decide(batch: CheckBatch): CheckBatch {
  if (node.checks.decide(batch) !== undefined) throw new Error('a batch took several turns');
  return batch;
}

function answer(batch: CheckBatch): void {
  finish(writer.writing(batch, (body) => body.send('', () => true)));
}

async function measure(handle: (body: Buffer) => unknown): Promise<number> {
  const found: number[] = [];
  const endMs = performance.now() + SECONDS * 1_000;
  for (let next = 0; performance.now() < endMs;) {
    const before = process.cpuUsage();
    for (let i = 0; i < MEASURED; i += 1) {
      handle(bodies[next++ % bodies.length]!);
      if (i % A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const { user, system } = process.cpuUsage(before);
    found.push((user + system) / MEASURED / BATCH);
  }
  return found.sort((a, b) => a - b)[Math.floor(found.length / 10)]!;
}

await node.start();
const ways: Record<string, (body: Buffer) => unknown> = {
  read,
  'read, decide': (body) => decide(read(body)),
  'read, decide, answer': (body) => answer(decide(read(body))),
  'general: read': readGenerally,
  'general: read, decide, answer': (body) => answer(decide(readGenerally(body))),
};
// Each once before, for V8 to compile it.
for (const handle of Object.values(ways)) await measure(handle);
for (const [name, handle] of Object.entries(ways)) console.log(`${name}: ${(await measure(handle)).toFixed(2)} µs`);
process.exit(0);
