import type { ChangeList } from '../../src/protocol/messages.js';
import type { EntryValue } from '../../src/policy/policy-entry.js';
import type { LimitsText, PolicyText } from '../../src/policy/policy.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { createRandom, type Random } from './random.js';
import type { NodePlan, Policies, PolicyWrite, Request, SettlePlan, Step } from './scenario.js';

/** Runs in which policies are changed, and costs are reserved. */
const WITH_POLICIES = 0.3;
const WITH_RESERVATIONS = 0.25;
/** Calls that come just when a fault begins, and at its node. */
const AT_FAULT = 0.3;

/** Under rules of their own, that little comes back to by itself: whatever is settled too low is admitted once more. */
const RESERVED_LIMITS: readonly (readonly Rule[])[] = [
  [ruleOf('token-bucket', 40, 3_600_000, 40, undefined)],
  [ruleOf('token-bucket', 100, 10_000, 40, undefined)],
  [ruleOf('sliding-window', 60, 3_600_000, 60, undefined)],
  [ruleOf('token-bucket', 60, 60_000, 30, undefined), ruleOf('sliding-window', 80, 3_600_000, 80, undefined)],
];

/** When something goes wrong, and at which node, if at one. */
interface Moment {
  readonly atMs: number;
  readonly forMs: number;
  readonly node: number | undefined;
}

/** What the policies of a run add to it. */
export interface PolicyWorkload {
  readonly policies: Policies | undefined;
  readonly writes: readonly PolicyWrite[];
  readonly requests: readonly Request[];
}

/** From numbers of its own, so that the rest of a run is what it would be without. */
export function generatePolicies(
  seed: number,
  loadMs: number,
  nodes: readonly NodePlan[],
  steps: readonly Step[],
): PolicyWorkload {
  const random = createRandom(seed + 2_000_003);
  const faults = steps.flatMap((step): Moment[] => {
    const forMs = 'forMs' in step ? step.forMs : 200;
    const node = nodes.findIndex(({ id }) => 'node' in step && id === step.node);
    return [{ atMs: step.atMs, forMs, node: node < 0 ? undefined : node }];
  });
  const moment = (): { atMs: number; node: number } => {
    const fault = faults.length > 0 && random.chance(AT_FAULT) ? random.pick(faults) : undefined;
    const node = random.between(0, 8);
    if (fault === undefined) return { atMs: random.between(0, Math.floor(loadMs * 0.8)), node };
    const early = random.chance(0.5);
    const atMs = Math.max(0, fault.atMs + (early ? random.between(-30, 30) : random.between(0, fault.forMs)));
    return { atMs, node: random.chance(0.5) ? (fault.node ?? node) : node };
  };
  const reserves = random.chance(WITH_RESERVATIONS) ? drawReserving(random, loadMs) : [];
  if (!random.chance(WITH_POLICIES)) return { policies: undefined, writes: [], requests: reserves };
  const texts = createTexts(random);
  const entries: [string, EntryValue][] = [
    ['policy api', texts.plain()],
    ['policy tiered', texts.tiered()],
  ];
  if (random.chance(0.5)) entries.push(['policy login', texts.several()], ['default', 'api']);
  if (random.chance(0.3)) entries.push(['tier limited 0', 'gold'], ['list limited 1', 'deny']);
  return {
    policies: { entries, kept: random.chance(0.5) },
    writes: drawWrites(random, texts, moment),
    requests: [...drawNamed(random, loadMs), ...reserves],
  };
}

/** Limits as people write them; no limit comes twice, so that the checker can tell whose it is. */
interface Texts {
  plain(): PolicyText;
  several(): PolicyText;
  tiered(): PolicyText;
  own(): LimitsText;
}

function createTexts(random: Random): Texts {
  const taken = new Set<number>();
  const limit = (): number => {
    for (;;) {
      const drawn = random.between(8, 64);
      if (taken.has(drawn) && taken.size < 50) continue;
      taken.add(drawn);
      return drawn;
    }
  };
  const terms = (): object => ({
    ...(random.chance(0.15) ? { shadow: true } : {}),
    ...(random.chance(0.15) ? { durability: 'replicated' } : {}),
    ...(random.chance(0.15) ? { onUnavailable: 'closed' } : {}),
  });
  const window = (): string => random.pick(['1h', '1h', '1h', '2s']);
  return {
    plain: () => ({
      limit: limit(),
      window: window(),
      ...(random.chance(0.3) ? { burst: random.between(8, 40) } : {}),
      ...terms(),
    }),
    several: () => ({
      limits: [
        { limit: limit(), window: '1h' },
        { limit: limit(), window: random.pick(['1s', '1h']), algorithm: 'sliding-window' as const },
      ],
      ...terms(),
    }),
    tiered: () => ({
      tiers: { free: { limit: limit(), window: '1h' }, gold: { limit: limit(), window: '1h' } },
      defaultTier: 'free',
      ...terms(),
    }),
    own: () => ({ limit: limit() }),
  };
}

function drawWrites(random: Random, texts: Texts, moment: () => { atMs: number; node: number }): PolicyWrite[] {
  const client = (): string => `limited ${random.between(0, 4)}`;
  const kinds: readonly (() => ChangeList)[] = [
    () => [['policy api', texts.plain()]],
    () => [['policy api', random.chance(0.5) ? texts.plain() : texts.several()]],
    () => [['policy login', random.chance(0.5) ? texts.several() : null]],
    () => [['policy tiered', texts.tiered()]],
    () => [[`override api ${client()}`, random.chance(0.6) ? texts.own() : null]],
    () => [[`tier ${client()}`, random.pick(['gold', 'free', 'unknown', null])]],
    () => [[`list ${client()}`, random.pick(['allow', 'deny', null, null] as const)]],
    () => [['default', random.pick(['api', 'login'])]],
    // As a file that was changed in several places.
    () => [
      ['policy api', texts.plain()],
      ['policy tiered', texts.tiered()],
      [`override api ${client()}`, texts.own()],
    ],
  ];
  const writes: PolicyWrite[] = [];
  for (let n = random.between(2, 7); n > 0; n -= 1) {
    const { atMs, node } = moment();
    const rivals = random.chance(0.3);
    if (random.chance(0.3)) {
      const changes = random.pick(kinds)();
      writes.push({ atMs: atMs + random.between(0, 300), node: random.between(0, 8), changes, ifMatch: undefined });
    }
    const changes = random.pick(kinds)();
    writes.push({
      atMs,
      node,
      changes,
      ifMatch:
        rivals || random.chance(0.2) ? { node: random.between(0, 8), beforeMs: random.between(0, 60) } : undefined,
    });
    if (!rivals) continue;
    const other = random.pick(kinds)();
    const ifMatch = { node: random.between(0, 8), beforeMs: random.between(0, 60) };
    writes.push({ atMs: atMs + random.between(0, 40), node: random.between(0, 8), changes: other, ifMatch });
  }
  return writes.sort((a, b) => a.atMs - b.atMs);
}

/** Clients that ask by policy; some all the time, at their limit from soon on. */
function drawNamed(random: Random, loadMs: number): Request[] {
  const requests: Request[] = [];
  for (let i = 0; i < 5; i += 1) {
    const policy = random.pick(['api', 'api', 'tiered', 'login', null]);
    const hops = random.chance(0.7);
    const home = random.between(0, 8);
    const maxCost = random.chance(0.3) ? 4 : 1;
    const reserves = random.chance(0.3);
    for (let n = random.pick([10, 20, 40]); n > 0; n -= 1) {
      const cost = random.between(1, maxCost);
      requests.push({
        atMs: random.between(0, loadMs),
        clientId: `limited ${i}`,
        node: hops ? random.between(0, 8) : home,
        rules: [],
        policy,
        cost,
        peek: false,
        requestId: undefined,
        replicated: false,
        retries: random.chance(0.1) ? 1 : 0,
        ...(reserves && random.chance(0.5) ? { settles: drawSettles(random, cost, loadMs) } : {}),
      });
    }
  }
  return requests;
}

/** Once, twice, late, at another node, never; for less, for nothing, for more. */
function drawSettles(random: Random, reserved: number, loadMs: number): SettlePlan[] {
  const one = (): SettlePlan => ({
    afterMs: random.chance(0.7) ? random.between(0, 300) : random.between(0, loadMs),
    node: random.between(0, 8),
    cost: random.chance(0.75) ? random.between(0, reserved) : random.between(reserved, 2 * reserved),
  });
  const first = one();
  switch (random.pick(['once', 'once', 'twice', 'at once', 'never'])) {
    case 'once':
      return [first];
    case 'twice':
      return [first, one(), one()];
    case 'at once':
      return [first, { ...first, node: random.between(0, 8), cost: random.between(0, reserved) }];
    default:
      return [];
  }
}

function drawReserving(random: Random, loadMs: number): Request[] {
  const requests: Request[] = [];
  for (let i = 0; i < 3; i += 1) {
    const rules = random.pick(RESERVED_LIMITS);
    const hops = random.chance(0.7);
    const home = random.between(0, 8);
    const names = random.chance(0.2);
    const plainly = random.pick([0, 0, 0.3]);
    for (let n = random.pick([10, 20, 30]); n > 0; n -= 1) {
      const cost = random.between(1, 8);
      const plain = random.chance(plainly);
      requests.push({
        atMs: random.between(0, loadMs),
        clientId: `reserving ${i}`,
        node: hops ? random.between(0, 8) : home,
        rules,
        cost: names ? 5 : cost,
        peek: false,
        requestId: names ? `request ${random.between(1, 40)}` : undefined,
        replicated: false,
        retries: random.chance(0.2) ? 1 : 0,
        ...(plain && !names ? {} : { settles: drawSettles(random, names ? 5 : cost, loadMs) }),
      });
    }
  }
  return requests;
}
