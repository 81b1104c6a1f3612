import { expect } from 'chai';
import { decodeClients } from '../../src/state/client-format.js';
import type { ClientSnapshot } from '../../src/state/client.js';
import type { Envelope, MemberRecord, PeerAnswer, PeerMessage, PolicyEntries } from '../../src/protocol/messages.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import type { Verdict } from '../../src/limits/decide/decide.js';
import { isEntry } from '../../src/policy/policy-document.js';
import { MAX_LIMIT, MAX_WINDOW_MS, sameBucket } from '../../src/limits/bucket/rule.js';
import { readTraceContext } from '../../src/lib/trace-context.js';

/**
 * What the cluster code relies on, written down apart from the code that is to ensure it. In plain conditions, as tests
 * flip each bit of many messages.
 */

type Described = readonly [value: unknown, what: string];

function whole(min: number, max: number, ...[value, what]: Described): void {
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max)
    expect.fail(`${what}: ${String(value)}`);
}

function text(minBytes: number, maxBytes: number, ...[value, what]: Described): void {
  const fine =
    typeof value === 'string' &&
    value.isWellFormed() &&
    Buffer.byteLength(value) >= minBytes &&
    Buffer.byteLength(value) <= maxBytes;
  if (!fine) expect.fail(`${what}: ${String(value)}`);
}

function oneOf(known: readonly string[], ...[value, what]: Described): void {
  if (!known.includes(value as string)) expect.fail(`${what}: ${String(value)}`);
}

function flag(...[value, what]: Described): void {
  if (typeof value !== 'boolean') expect.fail(`${what}: ${String(value)}`);
}

function part(value: unknown): void {
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) expect.fail(`a part: ${String(value)}`);
}

function id(...[value, what]: Described): void {
  text(3, 300, value, what);
  const url = new URL(`http://${String(value)}`);
  if (url.pathname !== '/' || url.search + url.hash + url.username !== '') expect.fail(`${what}: ${String(value)}`);
}

function member({ id: memberId, incarnation, state, beat, version, url, silentMs }: MemberRecord): void {
  id(memberId, 'member');
  for (const count of [incarnation, beat, silentMs]) whole(0, Number.MAX_SAFE_INTEGER - 1, count, 'count');
  oneOf(['joining', 'active', 'leaving', 'left'], state, 'state');
  text(0, 128, version, 'version');
  if (!/^[ -~]*$/.test(version)) expect.fail(`version: ${version}`);
  if (url === '') return;
  oneOf(['http:', 'https:'], new URL(url).protocol, 'protocol');
  id(url.slice(url.indexOf('//') + 2), 'url');
}

function ruleLike(
  rule: Pick<Check['rules'][number], 'algorithm' | 'limit' | 'windowMs' | 'capacity' | 'policy'>,
): void {
  oneOf(['token-bucket', 'sliding-window'], rule.algorithm, 'algorithm');
  whole(0, MAX_LIMIT, rule.limit, 'limit');
  whole(1, MAX_WINDOW_MS, rule.windowMs, 'window');
  whole(rule.limit === 0 ? 0 : 1, MAX_LIMIT, rule.capacity, 'capacity');
  if (rule.algorithm === 'sliding-window') whole(rule.limit, rule.limit, rule.capacity, 'capacity of a window');
  if (rule.policy !== undefined) text(1, 512, rule.policy, 'policy');
}

function check({ clientId, rules, cost, peek, requestId, replicated, trace }: Check): void {
  text(1, 256, clientId, 'client id');
  whole(1, 8, rules.length, 'rules');
  rules.forEach(ruleLike);
  rules.forEach((rule, i) =>
    whole(
      i,
      i,
      rules.findIndex((other) => sameBucket(rule, other)),
      'rule of this bucket',
    ),
  );
  whole(1, 1e9, cost, 'cost');
  flag(peek, 'peek');
  flag(replicated, 'replicated');
  if (trace !== undefined) expect(readTraceContext(trace.traceparent, trace.tracestate)).to.deep.equal(trace);
  if (requestId !== undefined) text(1, 128, requestId, 'request id');
}

function client([clientId, snapshots, recent = [], reservations = []]: ClientSnapshot): void {
  text(1, 256, clientId, 'client id');
  for (const { id: reservation, rules, cost, settled, ageMs, least } of reservations) {
    text(1, 512, reservation, 'reservation');
    check(createCheck(clientKey(clientId), rules, { cost }));
    if (settled !== undefined) whole(0, 1e9, settled, 'settled cost');
    whole(0, 3_600_000, ageMs, 'age');
    whole(rules.length, rules.length, least.length, 'least of each rule');
    for (const [tokens, part] of least) {
      whole(0, 4 * MAX_LIMIT, tokens, 'least');
      whole(0, MAX_WINDOW_MS - 1, part, 'part');
    }
  }
  for (const one of recent) {
    text(1, 128, one.requestId, 'request id');
    whole(0, 3_600_000, one.ageMs, 'age');
    verdict(one.verdict);
    flag(one.degraded, 'degraded');
  }
  for (const snapshot of snapshots) {
    ruleLike(snapshot);
    whole(1, MAX_LIMIT, snapshot.limit, 'limit of a bucket');
    whole(0, Number.MAX_SAFE_INTEGER - 1, snapshot.ruleChanges, 'rule changes');
    for (const lease of snapshot.leases ?? []) {
      text(1, 512, lease.id, 'lease id');
      whole(1, MAX_LIMIT, lease.tokens, 'tokens');
      whole(0, 60_000, lease.leftMs, 'ms of a lease');
      if (lease.spent !== undefined) whole(0, lease.tokens, lease.spent, 'spent');
    }
    const { state, windowMs } = snapshot;
    if (snapshot.algorithm === 'token-bucket') {
      whole(2, 2, state.length, 'numbers of a debt');
      whole(0, 4 * MAX_LIMIT, state[0], 'tokens');
      whole(0, windowMs - 1, state[1], 'part');
    } else {
      whole(0, 0, state.length % 2, 'half of a step');
      for (let i = 0; i < state.length; i += 2) {
        whole((state[i - 2] ?? 0) + 1, 4 * windowMs, state[i], 'ms of a step');
        whole(1, 4 * MAX_LIMIT, state[i + 1], 'count of a step');
      }
    }
  }
}

function wait(value: number | null): void {
  if (value !== null) whole(0, 1e20, value, 'wait');
}

function verdict({ allowed, limit, remaining, retryAfterMs, resetMs, limits }: Verdict): void {
  flag(allowed, 'allowed');
  whole(0, MAX_LIMIT, limit, 'limit');
  whole(0, MAX_LIMIT, remaining, 'remaining');
  wait(retryAfterMs);
  if (allowed) whole(0, 0, retryAfterMs, 'wait of who is allowed');
  whole(0, 1e20, resetMs, 'reset');
  for (const one of limits ?? []) {
    ruleLike({ ...one, capacity: one.limit, policy: undefined });
    whole(0, MAX_LIMIT, one.remaining, 'remaining');
    wait(one.retryAfterMs);
    whole(0, 1e20, one.resetMs, 'reset');
  }
}

function policies({ entries: list, version, digest }: PolicyEntries): void {
  whole(0, Number.MAX_SAFE_INTEGER - 1, version, 'version');
  text(0, 128, digest, 'digest');
  entries(list);
}

function entries(list: PolicyEntries['entries']): void {
  for (const [key, entry] of list) {
    expect(isEntry(key, entry.value)).to.equal(true);
    whole(1, Number.MAX_SAFE_INTEGER - 1, entry.version, 'version of an entry');
    id(entry.writer, 'writer');
  }
}

export function expectSoundMessage({ sender, body }: Envelope<PeerMessage>): void {
  member(sender.from);
  text(0, 128, sender.view, 'view');
  switch (body.kind) {
    case 'decide':
      text(1, 512, body.messageId, 'message id');
      body.refused.forEach((one) => id(one, 'refused'));
      return body.checks.forEach(check);
    case 'heartbeat':
      return body.members.forEach(member);
    case 'lease':
      for (const { clientId, rules, tokens } of body.requests) {
        check(createCheck(clientKey(clientId), rules));
        whole(1, MAX_LIMIT, tokens, 'tokens');
      }
      for (const { clientId, id: leaseId, unspent } of body.returns) {
        text(1, 256, clientId, 'client id');
        text(1, 512, leaseId, 'lease id');
        whole(0, MAX_LIMIT, unspent, 'tokens');
      }
      return;
    case 'replicate':
      return decodeClients(body.clients).forEach(client);
    case 'handoff':
      body.gone.forEach((one) => id(one, 'gone'));
      return whole(0, Number.MAX_SAFE_INTEGER - 1, body.chunk, 'chunk');
    case 'enter':
      member(body.record);
      text(0, 128, body.ring, 'ring');
      return body.members.forEach(member);
    case 'paused':
      return whole(0, Number.MAX_SAFE_INTEGER - 1, body.incarnation, 'incarnation');
    case 'describe':
    case 'forget':
      return text(1, 256, body.clientId, 'client id');
    case 'settle':
      text(1, 256, body.clientId, 'client id');
      text(1, 512, body.reservation, 'reservation');
      return whole(0, 1e9, body.cost, 'cost');
    case 'top':
      expect(['denied', 'asked', 'cost']).to.include(body.by);
      expect(['minute', 'hour']).to.include(body.span);
      return;
    case 'report':
    case 'use':
      return;
    case 'load':
      return part(body.load);
    case 'factors':
      return body.factors.forEach(([, factor]) => part(factor));
    case 'policies':
      return policies(body);
    case 'fetch-policies':
      return whole(0, 2 ** 52, body.version, 'version');
    case 'policy-part':
      text(1, 512, body.of, 'name of entries');
      return whole(0, Number.MAX_SAFE_INTEGER, body.part, 'part');
    case 'write-policies':
      text(1, 512, body.writeId, 'write id');
      return body.changes?.forEach(([key, value]) => expect(isEntry(key, value)).to.equal(true));
  }
}

export function expectSoundAnswer({ sender, body }: Envelope<PeerAnswer>): void {
  member(sender.from);
  text(0, 128, sender.view, 'view');
  switch (body.kind) {
    case 'decided':
      for (const result of body.results) {
        if (result === 'not-mine' || result === 'overloaded') continue;
        verdict(result.verdict);
        flag(result.degraded, 'degraded');
      }
      return body.members.forEach(member);
    case 'leased':
      for (const grant of body.grants) {
        if (grant === null) continue;
        text(1, 512, grant.id, 'lease id');
        whole(1, MAX_LIMIT, grant.tokens, 'tokens');
        verdict(grant.verdict);
      }
      return;
    case 'members':
    case 'not-yet':
      return body.members.forEach(member);
    case 'handed':
      expect(typeof body.more).to.equal('boolean');
      whole(0, Number.MAX_SAFE_INTEGER, body.total, 'total');
      return decodeClients(body.clients).forEach(client);
    case 'described':
      text(1, 256, body.client.clientId, 'client id');
      id(body.client.owner, 'owner');
      for (const bucket of body.client.buckets) {
        ruleLike({ ...bucket, capacity: bucket.limit });
        whole(0, MAX_LIMIT, bucket.remaining, 'remaining');
        whole(0, 1e20, bucket.resetMs, 'reset');
      }
      return;
    case 'top':
      for (const { clientId, count, error } of body.clients) {
        text(1, 256, clientId, 'client id');
        for (const amount of [count, error, body.floor]) expect(amount).to.be.within(0, Number.MAX_VALUE);
      }
      return;
    case 'report':
      for (const count of [...Object.values(body.report.allowed), ...body.report.durations])
        whole(0, Number.MAX_SAFE_INTEGER, count, 'count');
      return;
    case 'use':
      whole(0, Number.MAX_SAFE_INTEGER, body.use.asks, 'asks');
      if (body.use.lastMs !== undefined) expect(body.use.lastMs).to.be.within(0, Number.MAX_VALUE);
      return;
    case 'kept':
    case 'acted':
    case 'forgotten':
      return;
    case 'settled':
      if (body.settled?.kind !== 'settled') return;
      whole(0, 1e9, body.settled.settlement.cost, 'cost');
      return whole(1, 1e9, body.settled.settlement.reserved, 'reserved cost');
    case 'factors':
      return body.factors.forEach(([, factor]) => part(factor));
    case 'policies':
      return policies(body);
    case 'policy-part':
      expect(typeof body.more).to.equal('boolean');
      return entries(body.entries ?? []);
    case 'policies-written':
      if (body.written !== null) expect(['written', 'conflict', 'full', 'unavailable']).to.include(body.written.kind);
      return;
  }
}
