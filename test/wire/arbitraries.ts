import { sourceOf } from '../../src/lib/space-saving.js';
import { RANKINGS } from '../../src/limits/top-clients.js';
import fc from 'fast-check';
import { encodeClients } from '../../src/state/client-format.js';
import type { ClientSnapshot, RecentSnapshot, ReservationSnapshot } from '../../src/state/client.js';
import type {
  CheckResult,
  DecidedByPeer,
  Envelope,
  MemberRecord,
  PeerAnswer,
  PeerMessage,
  Settled,
  Sender,
  RingWritten,
} from '../../src/protocol/messages.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check, type CheckFields } from '../../src/limits/decide/check.js';
import type { LimitStats, Verdict } from '../../src/limits/decide/decide.js';
import type { ClientDescription } from '../../src/limits/request/description.js';
import type { Entry, EntryValue } from '../../src/policy/policy-entry.js';
import type { Debt } from '../../src/limits/bucket/reservation.js';
import type { TraceContext } from '../../src/lib/trace-context.js';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS, ruleOf, sameBucket, type Rule } from '../../src/limits/bucket/rule.js';
import type { LeaseSnapshot, Snapshot } from '../../src/limits/bucket/snapshot.js';

/** Any well-formed text of 1 to `maxBytes` bytes, hostile ones among them. */
export function texts(maxBytes: number): fc.Arbitrary<string> {
  const hostile = [
    '__proto__',
    'constructor',
    'toString',
    ' ',
    '"',
    '\\',
    '\\ud800',
    '\u0000',
    '\u2028',
    '😀',
    'é',
    '[1,2]',
  ];
  return fc
    .oneof(
      { weight: 1, arbitrary: fc.constantFrom(...hostile, 'x'.repeat(maxBytes)) },
      { weight: 2, arbitrary: fc.string({ unit: 'binary', minLength: 1, maxLength: maxBytes / 4 }) },
      { weight: 2, arbitrary: fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: maxBytes }) },
    )
    .filter((text) => text.isWellFormed() && Buffer.byteLength(text) <= maxBytes);
}

const counts = fc.oneof(
  fc.nat(10),
  fc.nat(),
  fc.maxSafeNat().map((n) => Math.floor(n / 2)),
);
const limits = fc.oneof(
  fc.integer({ min: 0, max: 20 }),
  fc.integer({ min: 0, max: MAX_LIMIT }),
  fc.constant(MAX_LIMIT),
);
const windowsMs = fc.oneof(
  fc.constantFrom(1, 1_000, 60_000, MAX_WINDOW_MS),
  fc.integer({ min: 1, max: MAX_WINDOW_MS }),
);
/** Of printable ASCII. */
const words = fc.string({ unit: 'grapheme-ascii', maxLength: 32 });
const policies = fc.option(texts(128), { nil: undefined });
const scopes = fc.option(texts(128), { nil: undefined });
/** Also beyond 2^53: until 1e9 tokens at one per 366 days are refilled. */
const waitsMs = fc.oneof(fc.nat(100_000), fc.maxSafeNat(), fc.constant(MAX_LIMIT * MAX_WINDOW_MS));
const remaining = fc.integer({ min: 0, max: MAX_LIMIT });

const ports = fc.integer({ min: 1, max: 65_535 });
export const nodeIds = fc.oneof(
  ports.map((port) => `127.0.0.1:${port}`),
  ports.map((port) => `node_1.cluster-a.local:${port}`),
  fc
    .tuple(
      fc.ipV6().filter((address) => /^[\da-f:.]{2,45}$/i.test(address)),
      ports,
    )
    .map(([address, port]) => `[${address}]:${port}`),
);

const members: fc.Arbitrary<MemberRecord> = fc.record({
  id: nodeIds,
  incarnation: counts,
  state: fc.constantFrom('joining', 'active', 'leaving', 'left'),
  beat: counts,
  version: words,
  url: fc.oneof(
    fc.constant(''),
    nodeIds.map((id) => `http://${id}`),
    nodeIds.map((id) => `https://${id}`),
  ),
  silentMs: counts,
  suspected: fc.boolean(),
});
const memberLists = fc.array(members, { maxLength: 5 });
export const senders: fc.Arbitrary<Sender> = fc.record({
  from: members,
  view: fc.string({ maxLength: 16 }),
  policies: fc.string({ maxLength: 16 }),
});

export const rules: fc.Arbitrary<Rule> = fc
  .tuple(fc.constantFrom('token-bucket', 'sliding-window'), limits, windowsMs, fc.option(limits), policies, scopes)
  .map(([algorithm, limit, windowMs, burst, policy, scope]) => {
    const capacity = algorithm === 'sliding-window' || burst === null ? limit : Math.max(1, burst);
    return ruleOf(algorithm, limit, windowMs, capacity, policy, scope);
  });

const plainChecks = fc.tuple(texts(256), rules).map(([clientId, rule]) => plainCheck(clientId, rule));

export function plainCheck(clientId: string, rule: Rule): Check {
  return createCheck(clientKey(clientId), [rule]);
}

const HEX = Array.from({ length: 16 }, (_, digit) => digit.toString(16));
const hex = (length: number): fc.Arbitrary<string> =>
  fc
    .string({ unit: fc.constantFrom(...HEX), minLength: length, maxLength: length })
    .filter((text) => /[^0]/.test(text));
const traces: fc.Arbitrary<TraceContext> = fc.record({
  traceparent: fc.tuple(hex(32), hex(16), hex(2)).map(([trace, span, flags]) => `00-${trace}-${span}-${flags}`),
  tracestate: fc.string({ maxLength: 512 }).map((text) => text.replaceAll(/[^ -~]/g, '')),
});
/** All fields that travel. */
const fields: { readonly [K in keyof CheckFields]: fc.Arbitrary<Check[K]> } = {
  cost: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: MAX_COST })),
  peek: fc.boolean(),
  requestId: fc.option(texts(128), { nil: undefined }),
  replicated: fc.boolean(),
  reservation: fc.option(texts(100), { nil: undefined }),
  trace: fc.option(traces, { nil: undefined }),
  terms: fc.constant(undefined),
};
const fullChecks = fc
  .tuple(texts(256), fc.uniqueArray(rules, { minLength: 1, maxLength: 8, comparator: sameBucket }), fc.record(fields))
  .map(([clientId, rules, more]) => createCheck(clientKey(clientId), rules, more));
export const checks = fc.oneof(plainChecks, fullChecks);

const figures: fc.Arbitrary<LimitStats> = fc.record({
  algorithm: fc.constantFrom('token-bucket', 'sliding-window'),
  windowMs: windowsMs,
  limit: limits,
  remaining,
  retryAfterMs: fc.option(waitsMs),
  resetMs: waitsMs,
});

const verdicts: fc.Arbitrary<Verdict> = fc
  .record({
    allowed: fc.boolean(),
    limit: limits,
    remaining,
    retryAfterMs: fc.option(waitsMs),
    resetMs: waitsMs,
    limits: fc.option(fc.array(figures, { minLength: 1, maxLength: 8 }), { nil: undefined }),
  })
  .map((verdict) => (verdict.allowed ? { ...verdict, retryAfterMs: 0 } : verdict));

const decided: fc.Arbitrary<DecidedByPeer> = fc
  .record({ verdict: verdicts, degraded: fc.boolean(), revocable: fc.boolean(), repeats: fc.boolean() })
  .map(({ verdict, degraded, revocable, repeats }) => ({
    verdict,
    degraded,
    revocable: revocable && !degraded && !verdict.allowed,
    ...(repeats && verdict.allowed && { unreserved: true }),
  }));
const results: fc.Arbitrary<CheckResult> = fc.oneof(decided, fc.constantFrom('overloaded', 'not-mine'));

const leaseTokens = fc.integer({ min: 1, max: MAX_LIMIT });
const leases: fc.Arbitrary<LeaseSnapshot[]> = fc.array(
  fc
    .record({
      id: texts(100),
      tokens: leaseTokens,
      leftMs: fc.nat(60_000),
      part: fc.option(fc.double({ min: 0, max: 1, noNaN: true })),
    })
    .map(({ part, ...lease }) => ({ ...lease, spent: part === null ? undefined : Math.floor(lease.tokens * part) })),
  { minLength: 1, maxLength: 3 },
);

const snapshots: fc.Arbitrary<Snapshot> = rules
  .filter(({ limit }) => limit > 0)
  .chain((rule) => {
    const { algorithm, windowMs } = rule;
    const states: fc.Arbitrary<number[]> =
      algorithm === 'token-bucket'
        ? fc.tuple(fc.integer({ min: 0, max: MAX_LIMIT }), fc.integer({ min: 0, max: windowMs - 1 }))
        : fc
            .uniqueArray(fc.tuple(fc.integer({ min: 1, max: 2 * windowMs }), fc.integer({ min: 1, max: MAX_LIMIT })), {
              maxLength: 34,
              selector: ([leftMs]) => leftMs,
            })
            .map((steps) => steps.sort((a, b) => a[0] - b[0]).flat());
    const ruleChanges = fc.oneof(fc.constant(0), fc.nat(1_000));
    return fc
      .tuple(states, ruleChanges, fc.option(leases, { nil: undefined }))
      .map(([state, changes, lent]): Snapshot => {
        const snapshot = { ...rule, ruleChanges: changes, state };
        return lent === undefined ? snapshot : { ...snapshot, leases: lent };
      });
  });
const recent: fc.Arbitrary<RecentSnapshot> = fc.record({
  requestId: texts(128),
  ageMs: fc.nat(60_000),
  verdict: verdicts,
  degraded: fc.boolean(),
});
const reservations: fc.Arbitrary<ReservationSnapshot[]> = fc.array(
  fc
    .tuple(fc.uniqueArray(rules, { minLength: 1, maxLength: 3, comparator: sameBucket }), texts(100), fc.nat(60_000))
    .chain(([under, id, ageMs]) =>
      fc.record({
        id: fc.constant(id),
        ageMs: fc.constant(ageMs),
        cost: fc.integer({ min: 1, max: MAX_COST }),
        settled: fc.option(fc.nat(MAX_COST), { nil: undefined }),
        rules: fc.constant(under),
        least: fc
          .tuple(fc.nat(MAX_LIMIT), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }))
          .map(([tokens, part]) => under.map(({ windowMs }): Debt => [tokens, Math.floor(part * windowMs)])),
      }),
    ),
  { minLength: 1, maxLength: 3 },
);
const clients: fc.Arbitrary<ClientSnapshot> = fc.oneof(
  fc.tuple(texts(256), fc.array(snapshots, { maxLength: 3 }), fc.array(recent, { maxLength: 2 }), reservations),
  fc.tuple(texts(256), fc.array(snapshots, { maxLength: 3 })),
  fc.tuple(texts(256), fc.array(snapshots, { maxLength: 3 }), fc.array(recent, { minLength: 1, maxLength: 3 })),
);
export const clientLists = fc.array(clients, { maxLength: 5 });
const encodedClients = clientLists.map(encodeClients);

const descriptions: fc.Arbitrary<ClientDescription> = fc.record({
  clientId: texts(256),
  owner: nodeIds,
  buckets: fc.array(
    fc.record({
      scope: scopes,
      policy: policies,
      algorithm: fc.constantFrom('token-bucket', 'sliding-window'),
      windowMs: windowsMs,
      limit: limits,
      remaining,
      resetMs: waitsMs,
    }),
    { maxLength: 4 },
  ),
});

const names = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,20}$/);
const kind = <K extends string>(name: K): fc.Arbitrary<K> => fc.constant(name);

/** Of each kind that a document has. */
const changes: fc.Arbitrary<[string, EntryValue | null]> = fc.oneof(
  fc.tuple(
    names.map((name) => `policy ${name}`),
    fc.constantFrom<EntryValue | null>(
      null,
      { limit: 5, window: '1m', burst: 9, shadow: true },
      { limits: [{ limit: 0, windowMs: 7, algorithm: 'sliding-window' }], durability: 'replicated' },
      { tiers: { free: { limit: 1, window: 1 }, __proto: { limit: 2, window: '1d' } }, defaultTier: 'free' },
    ),
  ),
  fc.tuple(
    fc.tuple(names, texts(256)).map(([policy, clientId]) => `override ${policy} ${clientId}`),
    fc.constantFrom<EntryValue | null>(null, { limit: 7 }, { limits: [{ limit: 1, window: 1 }] }),
  ),
  fc.tuple(
    texts(256).map((clientId) => `tier ${clientId}`),
    fc.option(names),
  ),
  fc.tuple(
    texts(256).map((clientId) => `list ${clientId}`),
    fc.constantFrom('allow', 'deny', null),
  ),
  fc.tuple(fc.constant('default'), fc.option(names)),
);
const entryLists = fc.array(
  fc
    .tuple(changes, fc.integer({ min: 1, max: 2 ** 40 }), nodeIds)
    .map(([[key, value], version, writer]): [string, Entry] => [key, { value, version, writer }]),
  { maxLength: 5 },
);
const policyEntries = fc.record({
  kind: kind('policies'),
  version: counts,
  digest: fc.string({ maxLength: 16 }),
  whole: fc.boolean(),
  entries: entryLists,
});
const version = fc.record({ version: counts, digest: fc.string({ maxLength: 16 }) });
const writtens: fc.Arbitrary<RingWritten> = fc.oneof(
  fc
    .tuple(fc.constantFrom('written' as const, 'conflict' as const), version)
    .map(([one, at]) => ({ kind: one, ...at })),
  fc.constantFrom<RingWritten>({ kind: 'full' }, { kind: 'unavailable' }),
);

const settleds: fc.Arbitrary<Settled> = fc.oneof(
  fc.constantFrom<Settled>({ kind: 'unknown' }, { kind: 'unavailable' }),
  fc.record({
    kind: kind('settled'),
    settlement: fc.record({
      cost: fc.nat(MAX_COST),
      reserved: fc.integer({ min: 1, max: MAX_COST }),
      limit: limits,
      remaining,
      resetMs: waitsMs,
    }),
  }),
);

const factorLists = fc.record({
  kind: kind('factors'),
  factors: fc.array(fc.tuple(names, fc.double({ min: 0.001, max: 1, noNaN: true })), { maxLength: 3 }),
});

const messageBodies: fc.Arbitrary<PeerMessage> = fc.oneof(
  fc.record({
    kind: kind('decide'),
    messageId: texts(300),
    refused: fc.array(nodeIds, { maxLength: 3 }),
    checks: fc.array(checks, { maxLength: 12 }),
  }),
  fc.record({ kind: kind('heartbeat'), members: memberLists }),
  fc.record({
    kind: kind('lease'),
    requests: fc.array(
      fullChecks.chain(({ clientId, rules: under }) =>
        fc.record({ clientId: fc.constant(clientId), rules: fc.constant(under), tokens: leaseTokens }),
      ),
      { maxLength: 5 },
    ),
    returns: fc.array(fc.record({ clientId: texts(256), id: texts(100), unspent: fc.nat(MAX_LIMIT) }), {
      maxLength: 5,
    }),
  }),
  fc.record({ kind: kind('replicate'), clients: encodedClients }),
  fc.record({ kind: kind('handoff'), chunk: counts, gone: fc.array(nodeIds, { maxLength: 3 }) }),
  fc.record({ kind: kind('enter'), record: members, ring: fc.string({ maxLength: 16 }), members: memberLists }),
  fc.record({ kind: kind('paused'), incarnation: counts }),
  fc.record({ kind: kind('describe'), clientId: texts(256) }),
  fc.record({ kind: kind('forget'), clientId: texts(256) }),
  fc.record({
    kind: kind('settle'),
    clientId: texts(256),
    reservation: texts(100),
    cost: fc.nat(MAX_COST),
  }),
  fc.record({
    kind: kind('top'),
    by: fc.constantFrom(...RANKINGS),
    span: fc.constantFrom('minute' as const, 'hour' as const),
    policy: fc.option(names, { nil: undefined }),
  }),
  fc.record({ kind: kind('report') }),
  fc.record({ kind: kind('use'), name: names }),
  fc.record({ kind: kind('load'), name: names, load: fc.double({ min: 0, max: 1, noNaN: true }) }),
  factorLists,
  policyEntries,
  fc.record({ kind: kind('fetch-policies'), version: counts, digest: fc.string({ maxLength: 16 }) }),
  fc.record({ kind: kind('policy-part'), of: texts(100), part: counts }),
  fc.record({
    kind: kind('write-policies'),
    writeId: texts(100),
    changes: fc.option(fc.array(changes, { maxLength: 5 })),
    ifMatch: fc.option(fc.array(fc.string({ maxLength: 30 }), { maxLength: 3 }), { nil: undefined }),
  }),
);

const amounts = fc.double({ min: 0, max: 1e15, noNaN: true }).map((amount) => amount + 0);
const countsBySource = fc.record({
  owner: counts,
  forwarded: counts,
  lease: counts,
  'deny-cache': counts,
  fallback: counts,
});
const counted = fc
  .record(
    { clientId: texts(256), policy: names, count: amounts, error: amounts, sdk: amounts },
    { requiredKeys: ['clientId', 'count', 'error', 'sdk'] },
  )
  .map(({ sdk, ...one }) => ({ ...one, source: sourceOf(one.count, sdk) }));
const reports = fc.record({
  allowed: countsBySource,
  denied: countsBySource,
  durations: fc.array(counts, { minLength: 17, maxLength: 17 }),
  problems: amounts,
  busyMs: amounts,
  uptimeMs: amounts,
  memoryBytes: amounts,
  memoryBudgetBytes: amounts,
  clients: amounts,
  replicationLagMs: amounts,
  forwardsWaiting: amounts,
});

const answerBodies: fc.Arbitrary<PeerAnswer> = fc.oneof(
  fc.record({ kind: kind('top'), clients: fc.array(counted, { maxLength: 5 }), floor: amounts }),
  fc.record({ kind: kind('report'), report: reports }),
  fc.record({ kind: kind('use'), use: fc.record({ asks: counts, lastMs: fc.option(amounts, { nil: undefined }) }) }),
  fc.record({ kind: kind('decided'), results: fc.array(results, { maxLength: 12 }), members: memberLists }),
  fc.record({
    kind: kind('leased'),
    grants: fc.array(fc.option(fc.record({ id: texts(100), tokens: leaseTokens, verdict: verdicts })), {
      maxLength: 5,
    }),
  }),
  fc.record({ kind: kind('members'), members: memberLists }),
  fc.record({ kind: kind('kept') }),
  fc.record({ kind: kind('handed'), clients: encodedClients, more: fc.boolean(), total: counts }),
  fc.record({ kind: kind('not-yet'), members: memberLists }),
  fc.record({ kind: kind('acted'), acted: fc.boolean() }),
  fc.record({ kind: kind('described'), client: descriptions }),
  fc.record({ kind: kind('forgotten') }),
  fc.record({ kind: kind('settled'), settled: fc.option(settleds) }),
  factorLists,
  policyEntries,
  fc.record({ kind: kind('policy-part'), entries: fc.option(entryLists), more: fc.boolean() }),
  fc.record({ kind: kind('policies-written'), written: fc.option(writtens) }),
);

export const messages: fc.Arbitrary<Envelope<PeerMessage>> = fc.record(
  { sender: senders, body: messageBodies },
  { noNullPrototype: true },
);
export const answers: fc.Arbitrary<Envelope<PeerAnswer>> = fc.record(
  { sender: senders, body: answerBodies },
  { noNullPrototype: true },
);
