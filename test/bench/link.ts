/**
 * `npx tsx test/bench/link.ts`: the CPU of both ends, in µs, for one message of four checks and its answer, between two
 * processes with 1, 4, and 16 messages in flight, without a secret and with one. Pin both to one core with `taskset`.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { listen } from '../../src/lib/listen.js';
import type { Envelope, PeerAnswer, PeerMessage, Sender } from '../../src/protocol/messages.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { PeerCounters } from '../../src/protocol/link/counters.js';
import { peerKeysOf, type Identity } from '../../src/protocol/link/handshake.js';
import { PeerServer } from '../../src/protocol/link/server.js';
import { LinkTransport } from '../../src/protocol/link/transport.js';

const CHECKS = 4;
const RUNS = 5;
const RUN_MS = 700;
const RULE = ruleOf('token-bucket', 100, 60_000, 100, undefined);
const SENDER: Sender = {
  from: {
    id: '127.0.0.1:9080',
    incarnation: 1,
    state: 'active',
    beat: 7,
    version: '0.1.0',
    url: 'http://127.0.0.1:8080',
    silentMs: 0,
    suspected: false,
  },
  view: 'abcdef012345',
  policies: '0f0f0f',
};
const log = { info: () => undefined, warn: (...line: unknown[]) => console.error(...line) };

function cpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function identityOf(secret: string): Identity {
  const keys = peerKeysOf(secret === '' ? undefined : secret, 'default');
  return { cluster: 'default', keys, self: () => '127.0.0.1:9080' };
}

async function serve(secret: string): Promise<void> {
  const verdict = { allowed: true, limit: 100, remaining: 50, retryAfterMs: 0, resetMs: 500, limits: undefined };
  const results = Array.from({ length: CHECKS }, () => ({ verdict, degraded: false, revocable: false }));
  const answer: Envelope<PeerAnswer> = { sender: SENDER, body: { kind: 'decided', results, members: [] } };
  const { server } = new PeerServer({
    receive: () => Promise.resolve(answer),
    counters: new PeerCounters(),
    identity: identityOf(secret),
    log,
  });
  process.on('message', () => process.send!(cpuUs()));
  process.on('disconnect', () => process.exit(0));
  process.send!(await listen(server, { port: 0, host: '127.0.0.1', setting: 'port' }));
}

async function measure(secret: string): Promise<string> {
  const child = fork(import.meta.filename, ['serve', secret], { execArgv: ['--import', 'tsx'] });
  const [port] = (await once(child, 'message')) as [number];
  const transport = new LinkTransport({ counters: new PeerCounters(), identity: identityOf(secret), log });
  let sent = 0;

  function message(): Envelope<PeerMessage> {
    sent += 1;
    const checks = Array.from({ length: CHECKS }, (_, i) =>
      createCheck(clientKey(`client-${CHECKS * sent + i}`), [RULE]),
    );
    return { sender: SENDER, body: { kind: 'decide', messageId: `127.0.0.1:9080 1 ${sent}`, refused: [], checks } };
  }

  async function load(inFlight: number, durationMs: number): Promise<number> {
    const [before, endMs] = [sent, performance.now() + durationMs];
    const lane = async (): Promise<void> => {
      while (performance.now() < endMs) {
        const { kind } = await transport.send(`127.0.0.1:${port}`, message(), 5_000);
        if (kind !== 'answer') throw new Error(`a message ended as ${kind}`);
      }
    };
    await Promise.all(Array.from({ length: inFlight }, lane));
    return sent - before;
  }

  async function bothUs(): Promise<number> {
    child.send('cpu');
    const [theirs] = (await once(child, 'message')) as [number];
    return cpuUs() + theirs;
  }

  await load(8, 3 * RUN_MS);
  const medians: string[] = [];
  for (const inFlight of [1, 4, 16]) {
    const runs: number[] = [];
    for (let i = 0; i < RUNS; i += 1) {
      const beforeUs = await bothUs();
      const messages = await load(inFlight, RUN_MS);
      runs.push(((await bothUs()) - beforeUs) / messages);
    }
    runs.sort((a, b) => a - b);
    medians.push(`${inFlight}: ${runs[RUNS >> 1]!.toFixed(1)} µs`);
  }
  child.disconnect();
  await transport.close();
  return medians.join('   ');
}

if (process.argv[2] === 'serve') await serve(process.argv[3] ?? '');
else {
  for (const secret of ['', 'a shared secret']) {
    console.log(`${secret === '' ? 'without a secret' : 'with a secret   '}   in flight ${await measure(secret)}`);
  }
}
