import { createClusterNode } from '../../src/cluster/node.js';
import type { ClusterNode, ClusterNodeDeps } from '../../src/cluster/node.js';
import type { CheckName } from './checker.js';
import { mutate } from './mutant.js';
import type { Patch } from './mutant.js';
import {
  dropsLastChunk,
  dropsUnsent,
  forgetsRequestIds,
  halvesCopies,
  namesResendsAnew,
  saysLeaversAreActive,
  sendsEmptyCopies,
} from './tampers.js';
import type { Tamper } from './network.js';
import type { WorldOptions } from './world.js';

/** A fault made on purpose, and the check that finds it. */
export interface Mutation {
  /** What the program does wrong. */
  readonly name: string;
  readonly caughtBy: CheckName;
  /** A world of nodes that have it. */
  world(): Promise<WorldOptions>;
}

const patched = (name: string, caughtBy: CheckName, ...patches: Patch[]): Mutation => ({
  name,
  caughtBy,
  world: async () => ({ createNode: await mutate(patches) }),
});

/** A fault on the wire; it may remember what it saw of a run. */
const tampered = (name: string, caughtBy: CheckName, tamper: () => Tamper): Mutation => ({
  name,
  caughtBy,
  world: () => Promise.resolve({ tamper: tamper() }),
});

const wired = (
  name: string,
  caughtBy: CheckName,
  deps: (deps: ClusterNodeDeps) => ClusterNodeDeps,
  node: (node: ClusterNode) => ClusterNode = (made) => made,
): Mutation => ({
  name,
  caughtBy,
  world: () => Promise.resolve({ createNode: (given, options) => node(createClusterNode(deps(given), options)) }),
});

export const MUTATIONS: readonly Mutation[] = [
  // What travels.
  tampered('sends no copies', 'copies', () => sendsEmptyCopies()),
  tampered('sends copies that owe half', 'copies', () => halvesCopies()),
  tampered('drops the last chunk of a handoff', 'admission', () => dropsLastChunk()),
  tampered('lets a joiner in without what changed since', 'admission', () => dropsUnsent()),
  tampered('sends a batch again under another id', 'denial', () => namesResendsAnew()),
  tampered('forgets request ids on the way', 'repeat', () => forgetsRequestIds()),
  tampered('says of leaving members that they are active', 'truth', () => saysLeaversAreActive()),
  // What it is given.
  {
    name: 'does not notice that it was away',
    caughtBy: 'admission',
    world: () => Promise.resolve({ clockStopsInFreeze: true }),
  },
  wired('reads a clock that jumps ahead', 'admission', (deps) => {
    const startedMs = deps.clock.nowMs();
    const nowMs = (): number => {
      const ms = deps.clock.nowMs();
      return ms - startedMs > 2_000 ? ms + 3_600_000 : ms;
    };
    return { ...deps, clock: { nowMs } };
  }),
  wired(
    'leaves without handing over',
    'admission',
    (deps) => deps,
    (node) =>
      Object.assign(node, {
        leave: () => {
          node.membership.declare('leaving');
          return Promise.resolve();
        },
      }),
  ),
  // What it computes.
  patched('overwrites what it has with a copy', 'admission', {
    file: 'core/bucket.ts',
    find: 'if (tokenBucket.compareDebt(other, bucket) > 0) {',
    replace: '{',
  }),
  patched('stands in with an empty table', 'admission', {
    file: 'cluster/limiter.ts',
    find: 'const client = known ?? new Client(clientId);',
    replace: 'const client = (degraded ? undefined : known) ?? new Client(clientId);',
  }),
  patched('goes on deciding for clients that another node owns by now', 'admission', {
    file: 'cluster/limiter.ts',
    find: 'known?.ownedAtRing === membership.ringVersion',
    replace: '(known?.ownedAtRing ?? 0) > 0',
  }),
  patched('tells new successors nothing after a change of the ring', 'copies', {
    file: 'cluster/replicator.ts',
    find: 'for (const id of targetsOf(client.id)) enqueue(id, client.id, true);',
    replace: '',
  }),
  patched('decides before all have let it in', 'admission', {
    file: 'cluster/joiner.ts',
    find: 'const admitted = new Set<NodeId>();',
    replace: "const admitted = new Set<NodeId>(); membership.declare('active');",
  }),
  patched('loses a check that its owner sent back', 'answered', {
    file: 'cluster/forwarder.ts',
    find: 'parked.add(item);',
    replace: 'void item;',
  }),
  patched('keeps dead members in the ring', 'agreement', {
    file: 'cluster/membership.ts',
    find: "if (stateOfKnown(known) === 'active') active.push(id);",
    replace: "if (known.record.state === 'active') active.push(id);",
  }),
  patched(
    'sends times of day',
    'copies',
    {
      file: 'core/snapshot.ts',
      find: '[endMs - bucket.atMs, bucket.counts[i]!]',
      replace: '[endMs, bucket.counts[i]!]',
    },
    { file: 'core/snapshot.ts', find: 'map((leftMs) => nowMs + leftMs)', replace: 'map((endMs) => endMs)' },
  ),
  patched('admits one more where a fraction of a token is there', 'admission', {
    file: 'core/token-bucket.ts',
    find: 'room > 0 || (room === 0 && debt.part === 0)',
    replace: 'room >= 0',
  }),
  patched('refills a little too fast', 'admission', {
    file: 'core/token-bucket.ts',
    find: 'const refilled = elapsedMs * rule.limit;',
    replace: 'const refilled = Math.ceil(elapsedMs * 1.01) * rule.limit;',
  }),
  patched('ends a sliding window early', 'admission', {
    file: 'core/sliding-window.ts',
    find: 'return Math.ceil(ms / gridMs) * gridMs;',
    replace: 'return Math.floor(ms / gridMs) * gridMs;',
  }),
  patched('charges what it denies', 'denial', {
    file: 'core/decide.ts',
    find: 'if (!allowed) continue;',
    replace: '',
  }),
  patched('rounds the time to wait down', 'truth', {
    file: 'core/token-bucket.ts',
    find: 'return Math.ceil(parts / rule.limit);',
    replace: 'return Math.floor(parts / rule.limit);',
  }),
  patched('keeps its own limit when another was changed', 'copies', {
    file: 'core/bucket.ts',
    find: 'bucket.rule = other.rule;',
    replace: '',
  }),
];
