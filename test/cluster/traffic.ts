import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { Rule } from '../../src/limits/bucket/rule.js';
import { createWorld, type SpawnOptions, type World, type WorldOptions } from '../sim/world.js';

/** One answer, with the virtual time of the question and of the answer. */
export interface Answer {
  readonly at: string;
  readonly askedMs: number;
  readonly answeredMs: number;
  readonly check: Check;
  readonly decision: Decision;
}

/** A ring of `count` members in virtual time, and how many messages of a kind its nodes have sent. */
export async function startRing(
  count: number,
  { seed = 1, ...options }: SpawnOptions & { seed?: number } = {},
  worldOptions: WorldOptions = {},
): Promise<{ world: World; ids: string[]; sent: Map<string, number> }> {
  const sent = new Map<string, number>();
  const world = createWorld(seed, {
    ...worldOptions,
    tamper: {
      ...worldOptions.tamper,
      message(_from, _to, message) {
        sent.set(message.body.kind, (sent.get(message.body.kind) ?? 0) + 1);
        return message;
      },
    },
  });
  const ids = Array.from({ length: count }, (_, i) => `${String.fromCharCode(97 + i)}:1`);
  for (const id of ids) {
    await world.until(world.spawn(id, { seeds: ids, leaseAfter: 32, ...options }).cluster.start(), 10_000);
  }
  await world.run(500);
  sent.clear();
  return { world, ids, sent };
}

export function checkOf(clientId: string, rules: readonly Rule[], more: Partial<Check> = {}): Check {
  return createCheck(clientKey(clientId), rules, more);
}

/** Asks the nodes in turn, `perSecond` times a second, evenly spread over `forMs`. */
export async function drive(
  world: World,
  at: readonly string[],
  { perSecond, forMs, check }: { perSecond: number; forMs: number; check: (i: number) => Check },
): Promise<Answer[]> {
  const answers: Answer[] = [];
  const endMs = world.nowMs + forMs;
  let asked = 0;
  for (let owed = 0; world.nowMs < endMs;) {
    owed += perSecond / 1_000;
    for (; owed >= 1; owed -= 1, asked += 1) ask(world, at[asked % at.length]!, check(asked), answers);
    await world.run(1);
  }
  await world.run(50);
  return answers;
}

function ask(world: World, at: string, check: Check, answers: Answer[]): void {
  const askedMs = world.nowMs;
  world.deliver(at, ({ cluster }) => {
    void Promise.resolve(decideAlone(cluster.checkRouter, check)).then((decision) =>
      answers.push({ at, askedMs, answeredMs: world.nowMs, check, decision }),
    );
  });
}

/** The part of the answers that satisfy a condition. */
export function shareOf(answers: readonly Answer[], has: (answer: Answer) => boolean): number {
  return answers.filter(has).length / answers.length;
}

/**
 * The most tokens by which any span of time saw more than its bound: the capacity, and what the span refilled. A decision was
 * made at most as long before its answer as the slowest took: so much longer may the span have been.
 */
export function mostAbove(answers: readonly Answer[], { capacity, limit, windowMs }: Rule): number {
  const perMs = limit / windowMs;
  const allowed = answers.filter(({ decision }) => decision.allowed);
  const slowestMs = Math.max(0, ...allowed.map(({ askedMs, answeredMs }) => answeredMs - askedMs));
  let debt = 0;
  let atMs = 0;
  let most = -Infinity;
  for (const { answeredMs, check } of allowed) {
    debt = Math.max(0, debt - (answeredMs - atMs) * perMs) + check.cost;
    atMs = answeredMs;
    most = Math.max(most, debt - capacity - slowestMs * perMs);
  }
  return most;
}
