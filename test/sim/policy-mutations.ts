import { patched, type Mutation } from './mutations.js';

/** Faults in how policies are kept, and reserved costs. */
export const POLICY_MUTATIONS: readonly Mutation[] = [
  {
    name: 'takes the older of two writes of a policy',
    caughtBy: 'policies',
    seed: 4,
    world: patched({
      file: 'policy/policy-document.ts',
      find: 'compare(key, theirs, ours) > 0',
      replace: 'compare(key, theirs, ours) < 0',
    }),
  },
  {
    name: 'makes one change of the policies after the other',
    caughtBy: 'policies',
    seed: 4,
    world: patched({
      file: 'node/policies/ring-backend.ts',
      find: 'const next = yield* changing(document, changes, self);',
      replace:
        'let next = document;\n      for (const one of changes) activePolicies.adopt((next = yield* changing(next, new Map([one]), self)));',
    }),
  },
  {
    name: 'adds news of the policies to whatever it has',
    caughtBy: 'policies',
    seed: 4,
    world: patched({
      file: 'node/policies/anti-entropy.ts',
      find: 'if (next.digest !== digest) return undefined;',
      replace: '',
    }),
  },
  {
    name: 'makes a change of the policies that another has overtaken',
    caughtBy: 'policies',
    seed: 10,
    world: patched({
      file: 'node/policies/ring-backend.ts',
      find: '!isTagged(document, changes, ifMatch)',
      replace: '!isTagged(document, changes, undefined)',
    }),
  },
  {
    name: 'acknowledges a change of the policies that only it knows',
    caughtBy: 'policies',
    seed: 4,
    world: patched({
      file: 'node/policies/anti-entropy.ts',
      find: 'await Promise.all(missing.map((id) => this.sync(id, news)));',
      replace: 'void 0;',
    }),
  },
  {
    name: 'joins without the policies',
    caughtBy: 'policies',
    seed: 77,
    theme: 'planned',
    world: patched({ file: 'replication/joiner.ts', find: 'await this.catchUp(present)', replace: 'true' }),
  },
  {
    name: 'forgets that a policy was deleted',
    caughtBy: 'policies',
    seed: 30,
    world: patched({
      file: 'policy/policy-document.ts',
      find: 'entries.set(key, entry);\n    tally.add(key, entry);',
      replace:
        'if (entry.value === null) entries.delete(key);\n    else {\n      entries.set(key, entry);\n      tally.add(key, entry);\n    }',
    }),
  },
  {
    name: 'settles, and takes changes of the policies, before it notices that it was away',
    caughtBy: 'settled',
    seed: 25,
    theme: 'freeze',
    world: patched({ file: 'membership/route.ts', find: 'this.parts.detectPause(clock.nowMs());', replace: '' }),
  },
  {
    name: "gives a client the policy's limit instead of its own",
    caughtBy: 'policies',
    seed: 4,
    world: patched({
      file: 'policy/policy.ts',
      find: 'if (own !== undefined) return ownRules(policy, own);',
      replace: '',
    }),
  },
  {
    name: 'begins a new bucket with each limit',
    caughtBy: 'admission',
    seed: 7,
    world: patched({
      file: 'limits/bucket/rule.ts',
      find: 'return a.windowMs === b.windowMs',
      replace: 'return a.limit === b.limit && a.windowMs === b.windowMs',
    }),
  },
  {
    name: 'settles as often as it is asked to',
    caughtBy: 'settled',
    world: patched(
      { file: 'state/reservations.ts', find: 'if (kept.reservation.settled === undefined) {', replace: '{' },
      {
        file: 'limits/bucket/reservation.ts',
        find: 'if (reservation.settled !== undefined) return reservation.rules.map(() => NOTHING);',
        replace: '',
      },
    ),
  },
  {
    name: 'gives back again what it has settled, and says nothing of it',
    caughtBy: 'admission',
    world: patched({
      file: 'state/reservations.ts',
      find: 'if (kept.reservation.settled === undefined) {',
      replace:
        'if (kept.reservation.settled !== undefined) { const again = { ...kept.reservation, settled: undefined }; settleReservation(client, again, cost, nowMs); } else {',
    }),
  },
  {
    name: 'gives back what the refill had paid already',
    caughtBy: 'truth',
    seed: 15,
    world: patched({
      file: 'limits/bucket/reservation.ts',
      find: 'const back = lesser([-more, 0], lesser(reservation.least[i]!, owed(bucket)));',
      replace: 'const back = lesser([-more, 0], owed(bucket));',
    }),
  },
  {
    name: 'gives back more than was reserved',
    caughtBy: 'admission',
    seed: 6,
    world: patched({
      file: 'limits/bucket/reservation.ts',
      find: 'const more = cost - reservation.cost;',
      replace: 'const more = 2 * (cost - reservation.cost);',
    }),
  },
  {
    name: 'frees what is not settled after a second',
    caughtBy: 'admission',
    world: patched({
      file: 'state/reservations.ts',
      find: 'observe(client: Client, rules: readonly Rule[] | undefined, nowMs: number): void {',
      replace:
        'observe(client: Client, rules: readonly Rule[] | undefined, nowMs: number): void {\n    for (const kept of this.byClient.get(client.id)?.kept.values() ?? []) if (kept.reservation.settled === undefined && rules !== undefined && nowMs - kept.reservation.atMs > 1_000) this.settleKept(client, kept, 0, nowMs);',
    }),
  },
  {
    name: 'keeps no reservations in copies',
    caughtBy: 'settled',
    seed: 8,
    world: patched({
      file: 'state/copies.ts',
      find: 'reservations.of(client.id, whole ? -Infinity : nowMs - NEW_RESERVATION_MS)',
      replace: 'NONE',
    }),
  },
  {
    name: 'remembers denials that a settlement ends',
    caughtBy: 'denial',
    seed: 8,
    theme: 'calm',
    world: patched({
      file: 'node/decide/owner.ts',
      find: ' || this.parts.reservations.hasOpen(client)',
      replace: '',
    }),
  },
];
