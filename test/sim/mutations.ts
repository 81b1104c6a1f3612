import { ClusterNode, type ClusterNodeDeps } from '../../src/node/node.js';
import type { CheckName } from './checker.js';
import { mutate, type Patch } from './mutant.js';
import type { Tamper } from './network.js';
import type { Theme } from './scenario.js';
import * as tampers from './tampers.js';
import type { WorldOptions } from './world.js';

/** A fault made on purpose, and the check that finds it. */
export interface Mutation {
  /** What the program does wrong. */
  readonly name: string;
  readonly caughtBy: CheckName;
  /** The first run that found it when last looked for, if not one of the first three. It is tried before the others. */
  readonly seed?: number;
  /** The runs in which it can show, where not in most. */
  readonly theme?: Theme;
  /** A world of nodes that have it, made anew for each run. */
  readonly world: () => Promise<WorldOptions>;
}

/** A fault in the program's code. */
export const patched = (...patches: Patch[]): Mutation['world'] => {
  let mutant: ReturnType<typeof mutate> | undefined;
  return async () => ({ createNode: await (mutant ??= mutate(patches)) });
};

/** A fault on the wire; it may remember what it saw of a run. */
const tampered =
  (tamper: () => Tamper): Mutation['world'] =>
  () =>
    Promise.resolve({ tamper: tamper() });

/** A fault in what a node is given, or in what it does as a whole. */
const wired =
  (
    given: (deps: ClusterNodeDeps) => ClusterNodeDeps,
    made = (node: ClusterNode): ClusterNode => node,
  ): Mutation['world'] =>
  () =>
    Promise.resolve({ createNode: (deps, options) => made(new ClusterNode(given(deps), options)) });

export const MUTATIONS: readonly Mutation[] = [
  { name: 'sends no copies', caughtBy: 'copies', world: tampered(tampers.sendsEmptyCopies) },
  { name: 'sends copies that owe half', caughtBy: 'copies', world: tampered(tampers.halvesCopies) },
  {
    name: 'drops the last chunk of a handoff',
    caughtBy: 'admission',
    theme: 'planned',
    world: tampered(tampers.dropsLastChunk),
  },
  {
    name: 'lets a joiner in without what changed since',
    caughtBy: 'truth',
    seed: 8,
    theme: 'planned',
    world: tampered(tampers.dropsUnsent),
  },
  {
    name: 'sends a batch again under another id',
    caughtBy: 'denial',
    seed: 96,
    world: tampered(tampers.namesResendsAnew),
  },
  { name: 'forgets request ids on the way', caughtBy: 'repeat', world: tampered(tampers.forgetsRequestIds) },
  {
    name: 'says of leaving members that they are active',
    caughtBy: 'truth',
    theme: 'planned',
    world: tampered(tampers.saysLeaversAreActive),
  },
  {
    name: 'does not notice that it was away',
    caughtBy: 'admission',
    seed: 27,
    theme: 'freeze',
    world: () => Promise.resolve({ clockStopsInFreeze: true }),
  },
  {
    name: 'says that it has not acted for a node that paused',
    caughtBy: 'admission',
    seed: 37,
    theme: 'freeze',
    world: patched({
      file: 'node/peer-handler.ts',
      find: 'acted: membership.mayHaveActedFor(from, message.incarnation)',
      replace: 'acted: false',
    }),
  },
  {
    name: 'rejoins after a pause that no node noticed',
    caughtBy: 'ring',
    seed: 20,
    theme: 'freeze',
    world: patched({
      file: 'membership/pause-detector.ts',
      find: 'if (!isClear) resolve(id);',
      replace: 'if (!isClear || missing > 0) resolve(id);',
    }),
  },
  {
    name: 'reads a clock that jumps ahead',
    caughtBy: 'admission',
    world: wired((deps) => {
      const startedMs = deps.clock.nowMs();
      const nowMs = (): number => {
        const ms = deps.clock.nowMs();
        return ms - startedMs > 2_000 ? ms + 3_600_000 : ms;
      };
      return { ...deps, clock: { nowMs } };
    }),
  },
  {
    name: 'leaves without handing over',
    caughtBy: 'truth',
    seed: 34,
    theme: 'planned',
    world: wired(
      (deps) => deps,
      (node) => {
        const leave = (): Promise<void> => Promise.resolve(node.membership.declare('left'));
        return Object.assign(node, { leave });
      },
    ),
  },
  {
    name: 'overwrites what it has with a copy',
    caughtBy: 'admission',
    seed: 9,
    world: patched({
      file: 'limits/bucket/bucket.ts',
      find: 'if (tokenBucket.compareDebt(other, bucket) > 0) {',
      replace: '{',
    }),
  },
  {
    name: 'stands in with an empty table',
    caughtBy: 'admission',
    seed: 4,
    theme: 'crash',
    world: patched({
      file: 'node/decide/owner.ts',
      find: 'const client = this.open(item);',
      replace: "if (as === 'acting') table.delete(item.clientId);\n    const client = this.open(item);",
    }),
  },
  {
    name: 'goes on deciding for clients that another node owns by now',
    caughtBy: 'admission',
    theme: 'planned',
    world: patched({
      file: 'membership/route.ts',
      find: 'const owner = ring.owner(client);',
      replace: `
        const own = (membership as { decided?: Set<number | string> }).decided ??= new Set();
        const name = typeof client === 'string' ? client : client.hashHigh;
        const owner = own.has(name) ? self : ring.owner(client);
        if (owner === self) own.add(name);`,
    }),
  },
  {
    name: 'has the only copy of a bucket on the machine of its owner',
    caughtBy: 'admission',
    seed: 85,
    theme: 'crash',
    world: patched({
      file: 'limits/ring/ring.ts',
      find: 'let needsOtherHost = severalHosts;',
      replace: 'let needsOtherHost = false;',
    }),
  },
  {
    name: 'leaves before its last changes have arrived',
    caughtBy: 'truth',
    seed: 8,
    theme: 'planned',
    world: patched({
      file: 'node/leaver.ts',
      find: 'replicator.handOffFrom(group.ids);\n    await this.drain();',
      replace: '',
    }),
  },
  {
    name: 'tells new successors nothing after a change of the ring',
    caughtBy: 'copies',
    seed: 16,
    world: patched({
      file: 'replication/replicator.ts',
      find: 'for (const id of this.placement.targetsOf(client)) this.enqueue(id, client, true);',
      replace: '',
    }),
  },
  {
    name: 'keeps to itself what it admitted as a stand-in',
    caughtBy: 'copies',
    seed: 32,
    theme: 'partition',
    world: patched({
      file: 'replication/replicator.ts',
      find: ' && !client.decidedAsActingOwner',
      replace: '',
    }),
  },
  {
    name: 'decides before all have let it in',
    caughtBy: 'truth',
    seed: 7,
    theme: 'planned',
    world: patched({
      file: 'replication/joiner.ts',
      find: 'const accepted = new Set<NodeId>();',
      replace: "const accepted = new Set<NodeId>(); membership.declare('active');",
    }),
  },
  {
    name: 'loses a check that its owner sent back',
    caughtBy: 'answered',
    seed: 10,
    world: patched({ file: 'node/decide/forwarder.ts', find: 'this.parked.add(forward);', replace: 'void forward;' }),
  },
  {
    name: 'decides by its fallback where too many checks wait for the owner',
    caughtBy: 'overload',
    theme: 'calm',
    world: patched({
      file: 'node/decide/forwarder.ts',
      find: 'return complete(forward, OVERLOADED);',
      replace: 'return complete(forward, UNAVAILABLE);',
    }),
  },
  {
    name: 'asks the owner after it has answered that too many checks wait',
    caughtBy: 'truth',
    seed: 6,
    theme: 'calm',
    world: patched({
      file: 'lib/batching-queue.ts',
      find: 'if (destination.waiting.length >= this.maxWaiting) return false;',
      replace: 'if (destination.waiting.length >= this.maxWaiting) return destination.waiting.push(item) < 0;',
    }),
  },
  {
    name: 'answers as overload what is first in the queue',
    caughtBy: 'overload',
    seed: 6,
    theme: 'calm',
    world: patched({
      file: 'lib/batching-queue.ts',
      find: 'destination.waiting.length >= this.maxWaiting',
      replace: 'destination.waiting.length + 1 >= this.maxWaiting',
    }),
  },
  {
    name: 'starts under an id that another process has',
    caughtBy: 'identity',
    seed: 4,
    theme: 'calm',
    world: patched({
      file: 'membership/id-check.ts',
      find: "if (asked.kind === 'answer' && !this.hasArrived) this.refuse('another node answers at this address');",
      replace: 'return;',
    }),
  },
  {
    name: 'waits for a peer that refuses it',
    caughtBy: 'answered',
    theme: 'crash',
    world: patched(
      {
        file: 'membership/membership.ts',
        find: 'known.refusedAtBeat !== undefined || this.isSilent(known, nowMs)',
        replace: 'this.isSilent(known, nowMs)',
      },
      {
        file: 'membership/gossip-membership.ts',
        find: 'return this.suspicion.silentMs(known, nowMs) > this.options.suspectAfterMs / 2;',
        replace: 'return this.suspicion.silentMs(known, nowMs) > this.options.suspectAfterMs;',
      },
    ),
  },
  {
    name: 'believes at once that a member is silent which another node misses',
    caughtBy: 'ring',
    seed: 60,
    theme: 'freeze',
    world: patched({
      file: 'membership/suspicion.ts',
      find: 'known.probedSinceMs = nowMs;\n    this.newSuspects',
      replace: 'known.probedSinceMs = known.heardAtMs = nowMs - 2 * this.suspectAfterMs;\n    this.newSuspects',
    }),
  },
  {
    name: 'asks nobody of whom it only hears',
    caughtBy: 'admission',
    seed: 1633,
    theme: 'planned',
    world: patched({ file: 'membership/gossip-membership.ts', find: 'this.toAsk.push(id);', replace: '' }),
  },
  {
    name: 'keeps dead members in the ring',
    caughtBy: 'agreement',
    theme: 'crash',
    world: patched({
      file: 'membership/membership.ts',
      find: 'if (this.isInRing(known)) active.set(',
      replace: "if (known.record.state === 'active') active.set(",
    }),
  },
  {
    name: 'sends times of day',
    caughtBy: 'copies',
    world: patched(
      {
        file: 'limits/bucket/snapshot.ts',
        find: '[endMs - bucket.atMs, bucket.counts[i]!]',
        replace: '[endMs, bucket.counts[i]!]',
      },
      { file: 'limits/bucket/snapshot.ts', find: 'map((leftMs) => nowMs + leftMs)', replace: 'map((endMs) => endMs)' },
    ),
  },
  {
    name: 'admits one more where a fraction of a token is there',
    caughtBy: 'admission',
    world: patched({
      file: 'limits/bucket/token-bucket.ts',
      find: 'room > 0 || (room === 0 && debt.part === 0)',
      replace: 'room >= 0',
    }),
  },
  {
    name: 'refills a little too fast',
    caughtBy: 'admission',
    world: patched({
      file: 'limits/bucket/token-bucket.ts',
      find: 'const refilled = elapsedMs * rule.limit;',
      replace: 'const refilled = Math.ceil(elapsedMs * 1.01) * rule.limit;',
    }),
  },
  {
    name: 'ends a sliding window early',
    caughtBy: 'admission',
    seed: 5,
    world: patched({
      file: 'limits/bucket/sliding-window.ts',
      find: 'return Math.ceil(ms / gridMs) * gridMs;',
      replace: 'return Math.floor(ms / gridMs) * gridMs;',
    }),
  },
  {
    name: 'charges what it denies',
    caughtBy: 'denial',
    seed: 7,
    world: patched({ file: 'limits/decide/decide.ts', find: 'allowed ? cost : 0', replace: 'cost' }),
  },
  {
    name: 'rounds the time to wait down',
    caughtBy: 'truth',
    seed: 3,
    world: patched({
      file: 'limits/bucket/token-bucket.ts',
      find: 'return Math.ceil(parts / rule.limit);',
      replace: 'return Math.floor(parts / rule.limit);',
    }),
  },
  {
    name: 'keeps its own limit when another was changed',
    caughtBy: 'copies',
    seed: 4,
    world: patched({ file: 'limits/bucket/bucket.ts', find: 'bucket.rule = other.rule;', replace: '' }),
  },
  {
    name: 'lends tokens that it does not take out of the bucket',
    caughtBy: 'admission',
    seed: 23,
    world: patched({
      file: 'node/leases/granter.ts',
      find: 'for (const bucket of buckets) lend(',
      replace: 'for (const bucket of buckets.slice(0, 0)) lend(',
    }),
  },
  {
    name: 'spends leased tokens that it has given back',
    caughtBy: 'admission',
    seed: 23,
    world: patched(
      {
        file: 'node/leases/holder.ts',
        find: 'one.held = one.held.filter((held) => !over.includes(held));',
        replace: '',
      },
      { file: 'node/leases/holder.ts', find: ' && nowMs < endsAtMs', replace: '' },
    ),
  },
  {
    name: 'takes back more than is unspent of a lease',
    caughtBy: 'admission',
    seed: 23,
    world: patched({
      file: 'limits/bucket/lease.ts',
      find: 'Math.max(0, lease.tokens - unspent)',
      replace: '0',
    }),
  },
  {
    name: 'counts nothing of a lease that did not come back',
    caughtBy: 'admission',
    seed: 23,
    world: patched({ file: 'limits/bucket/lease.ts', find: 'ended(lease);', replace: '' }),
  },
  {
    name: 'keeps no leases in copies',
    caughtBy: 'admission',
    seed: 75,
    theme: 'crash',
    world: tampered(tampers.hidesLeases),
  },
  {
    name: 'denies smaller costs too by a remembered denial',
    caughtBy: 'denial',
    seed: 10,
    world: patched({ file: 'limits/decide/denials.ts', find: ' || check.cost < denial.cost', replace: '' }),
  },
  {
    name: 'denies by a remembered denial under another limit',
    caughtBy: 'truth',
    seed: 64,
    world: patched({
      file: 'limits/decide/denials.ts',
      find: '.find((one) => asksSame(one, check))',
      replace: '[0]',
    }),
  },
  {
    name: 'remembers a denial for ten times its time',
    caughtBy: 'denial',
    seed: 37,
    world: patched({
      file: 'limits/decide/denials.ts',
      find: 'asking.atMs + Math.min(decision.retryAfterMs ?? Infinity, this.longestMs)',
      replace: 'asking.atMs + 10 * (decision.retryAfterMs ?? Infinity)',
    }),
  },
];
