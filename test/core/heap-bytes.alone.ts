import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from 'chai';
import { LRUCache } from 'lru-cache';
import { BucketTable, type Client } from '../../src/state/bucket-table.js';
import { RecentDecisions } from '../../src/state/recent-decisions.js';
import { Reservations } from '../../src/state/reservations.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import type { Outcome } from '../../src/limits/decide/decide.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import { Denials } from '../../src/limits/decide/denials.js';
import { Buckets } from '../../src/limits/bucket/bucket.js';
import {
  clientBytes,
  denialBytes,
  rememberedDecisionBytes,
  reservationBytes,
  waitingBatchBytes,
} from '../../src/limits/heap-bytes.js';
import { policyHeapBytes, change, documentOf, NO_DOCUMENT, policySetOf } from '../../src/policy/policy-document.js';
import { CheckBatch } from '../../src/limits/decide/check-batch.js';
import type { Entry } from '../../src/policy/policy-entry.js';
import { entriesOf, type PolicyFileText } from '../../src/policy/policy-file.js';
import { Forwarder } from '../../src/node/decide/forwarder.js';
import type { Membership } from '../../src/membership/membership.js';
import type { Timers } from '../../src/lib/system.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { createFakeClock } from '../support/fake-clock.js';
import { ask } from '../support/rules.js';

/** Ms beyond 31 bits, which V8 keeps in objects of their own. */
const MONTH_MS = 30 * 86_400_000;
const COUNT = 4_000;
const PLENTY = { maxBytes: 2 ** 40 };

setFlagsFromString('--expose-gc');
// Code that V8 compiles, or throws away, between two measurements would count as the data's.
for (const flag of ['--no-opt', '--no-sparkplug', '--no-flush-bytecode']) setFlagsFromString(flag);
const collect = runInNewContext('gc') as () => void;

/** The bytes of all that is alive, once nothing of what came before goes any more. */
async function heapBytes(): Promise<number> {
  let least = Infinity;
  for (let steady = 0; steady < 3; steady += 1) {
    await setImmediate();
    collect();
    const { heapUsed } = process.memoryUsage();
    if (heapUsed < least - 1_000) steady = 0;
    least = Math.min(least, heapUsed);
  }
  return least;
}

/** Bytes on the heap of each of `COUNT` things that `add` makes. */
async function measure(add: (i: number) => void): Promise<number> {
  const before = await heapBytes();
  for (let i = 0; i < COUNT; i += 1) add(i);
  return ((await heapBytes()) - before) / COUNT;
}

/** A string of its own, as one from a request is. */
const idOf = (i: number, length: number): string => Buffer.from(`${i}`.padEnd(length, '.')).toString('latin1');

function rulesOf(algorithm: Rule['algorithm'], count: number, i: number): Rule[] {
  return Array.from({ length: count }, (_, at) => {
    return {
      algorithm,
      limit: 1_000 + i,
      windowMs: MONTH_MS + at,
      capacity: 1_000 + i,
      policy: undefined,
      scope: undefined,
    };
  });
}

/** A denial, whose figures are all large. */
function decisionOf(rules: readonly Rule[]): Decision {
  const { allowed, limit, remaining, retryAfterMs, resetMs, limits } = spent(rules);
  return { allowed, limit, remaining, retryAfterMs, resetMs, limits, owner: 'a:1', source: 'owner', degraded: false };
}

function spent(rules: readonly Rule[]): Outcome {
  const buckets = new Buckets();
  ask(buckets, rules, 0.5, rules[0]!.limit);
  return ask(buckets, rules, 0.5, rules[0]!.limit);
}

describe('the bytes that are charged', () => {
  /** What is charged is an upper bound, and not far from the truth. */
  function expectCharged(name: string, measured: number, charged: number, least = 0.45): void {
    expect(measured, `${name}: charged ${charged}`).to.be.within(charged * least, charged * 1.02);
  }

  for (const algorithm of ['token-bucket', 'sliding-window'] as const) {
    for (const [count, idBytes] of [
      [2, 20],
      [8, 20],
      [8, 256],
    ] as const) {
      it(`for a client with ${count} limits (${algorithm}) and an id of ${idBytes} bytes are what it takes`, async () => {
        const table = new BucketTable({ maxClients: 2 * COUNT });
        let charged = 0;
        const measured = await measure((i) => {
          const client = table.open(clientKey(idOf(i, idBytes)));
          ask(client, rulesOf(algorithm, count, i), 0.5);
          table.close(client, 0.5);
          charged = clientBytes(client, idBytes);
        });
        expectCharged('client', measured, charged);
        expect(table.size()).to.equal(COUNT);
      });
    }
  }

  for (const [count, idBytes] of [
    [1, 20],
    [8, 20],
    [8, 256],
  ] as const) {
    const name = `with ${count} limits and ids of ${idBytes} bytes`;

    it(`for a request id ${name} are what it takes`, async () => {
      const recent = new RecentDecisions(createFakeClock(), 'a:1', PLENTY.maxBytes);
      const add = (i: number): void =>
        recent.add(idOf(i, idBytes), idOf(i, idBytes), decisionOf(rulesOf('token-bucket', count, i)));
      const one = rememberedDecisionBytes(
        idOf(1, idBytes),
        idOf(1, idBytes),
        decisionOf(rulesOf('token-bucket', count, 1)),
      );
      expectCharged('request id', await measure(add), one);
      expect(recent.size()).to.equal(COUNT);
    });

    it(`for a reservation ${name} are what it takes`, async () => {
      const reservations = new Reservations(createFakeClock(), PLENTY);
      const add = (i: number): void => {
        const client = Object.assign(new Buckets(), { id: idOf(i, idBytes), remembersUntilMs: 0 }) as unknown as Client;
        const [first, ...others] = rulesOf('token-bucket', count, i);
        const check = createCheck(clientKey(client.id), [first!, ...others], { reservation: idOf(i, idBytes) });
        ask(client, check.rules, 0.5);
        reservations.observe(client, check.rules, 0.5);
        reservations.add(client, check, 0.5);
      };
      const charged = reservationBytes(idOf(1, idBytes), idOf(1, idBytes), rulesOf('token-bucket', count, 1));
      expectCharged('reservation', await measure(add), charged);
      expect(reservations.size()).to.equal(COUNT);
    });

    const limits = Array.from({ length: count }, (_, at) => ({ limit: 1_000_000 + at, window: MONTH_MS + at }));
    const many = { policies: {}, clients: {}, allow: Array.from({ length: 10_000 }, (_, i) => idOf(i, idBytes)) };
    const names = Array.from({ length: 900 }, (_, i) => `policy-${i}`);
    const tiers = Object.fromEntries(Array.from({ length: 8 }, (_, i) => [`tier-${i}`, { limits }]));
    const large = { policies: Object.fromEntries(names.map((one) => [one, { tiers, defaultTier: 'tier-0' }])) };
    for (const [shape, file] of Object.entries({ 'of many limits': large, 'of many clients': many })) {
      it(`for policies ${shape} ${name} are what they take`, async () => {
        const text = JSON.stringify(file);
        const before = await heapBytes();
        const entries = entriesOf(JSON.parse(text) as PolicyFileText);
        // Other nodes' policies come as JSON and share nothing with the file.
        const others = JSON.stringify([...change(NO_DOCUMENT, entries, '127.0.0.1:9080').entries]);
        const withText = await heapBytes();
        const document = documentOf(1, new Map(JSON.parse(others) as [string, Entry][]));
        const set = policySetOf(document);
        const own = withText - before - others.length;
        const measured = (await heapBytes()) - withText + own;
        expectCharged('policies', measured, policyHeapBytes(document.bytes, document.entries.size), 0.35);
        expect(set.policies.size + set.listed.size).to.equal(entries.size);
      });
    }

    it(`for a batch that waits for another node ${name} are what it takes`, async () => {
      const forwarder = new Forwarder({
        clock: createFakeClock(),
        timers: { soon: () => undefined, every: () => () => undefined } as unknown as Timers,
        membership: {} as unknown as Membership,
        ask: () => new Promise(() => undefined),
        router: { deciderOf: () => undefined },
        giveUpAfterMs: 1_000,
        maxQueued: 2 * COUNT,
      });
      const batches: CheckBatch[] = [];
      const size = 100;
      const add = (i: number): void => {
        if (i % size === 0) batches.push(new CheckBatch());
        const batch = batches.at(-1)!;
        const rules = rulesOf('token-bucket', count, i);
        const check = createCheck(clientKey(idOf(i, idBytes)), rules, { requestId: idOf(i, idBytes) });
        const item = batch.add(check);
        const decision = decisionOf(rules);
        item.record(decision, decision);
        forwarder.forward(item, 'b:1', 0, { forwarded: () => undefined });
      };
      const measured = await measure(add);
      // The part of a request that is no check is not measured here.
      const requestBytes = waitingBatchBytes(new CheckBatch()) / size;
      expectCharged('batch', measured, waitingBatchBytes(batches[1]!) / size - requestBytes);
      expect(forwarder.waiting()).to.equal(COUNT);
    });

    it(`for a denial ${name} are what it takes`, async () => {
      const denials = new Denials(new LRUCache({ maxSize: PLENTY.maxBytes, sizeCalculation: () => 1 }));
      const add = (i: number): void => {
        const rules = rulesOf('token-bucket', count, i);
        denials.remember(createCheck(clientKey(idOf(i, idBytes)), rules), decisionOf(rules), denials.asking(0.5), 0.5);
      };
      const rules = rulesOf('token-bucket', count, 1);
      expectCharged('denial', await measure(add), denialBytes(idOf(1, idBytes), rules, decisionOf(rules)));
      expect(denials.size()).to.equal(COUNT);
    });
  }
});
