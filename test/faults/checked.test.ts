import { expect } from 'chai';
import type { CheckName } from '../sim/checker.js';
import type { Statement } from '../sim/history.js';
import { asAt, checkedFigures, violationsOf, type Checked } from './checked.js';
import { createClients } from './clients.js';
import type { Asked } from './history.js';

const IDS = ['a:1', 'b:1'];
const HOUR_MS = 3_600_000;
/** One who only asks when told to: 20 an hour. */
const CLIENTS = createClients(2_100, 1_000);
const SPARE = CLIENTS.length - 1;
const LIMIT = 20;

/** Asks 25 times, of either node in turn: allowed 20 times, and then told to come back. */
function asked(): Asked[] {
  return Array.from({ length: 25 }, (_, i): Asked => {
    const sentMs = 1_000 + 10 * i;
    const used = Math.min(LIMIT, i + 1);
    // Each token comes back after 3 minutes.
    const backMs = (HOUR_MS / LIMIT) * used - (sentMs - 1_000);
    return {
      client: SPARE,
      node: i % 2,
      sentMs,
      receivedMs: sentMs + 2,
      status: i < LIMIT ? 200 : 429,
      allowed: i < LIMIT,
      limit: LIMIT,
      // A little of a token is back as soon as it is taken, but not a whole one.
      remaining: LIMIT - used,
      retryAfterMs: i < LIMIT ? 0 : HOUR_MS / LIMIT - (sentMs - 1_000),
      resetMs: backMs,
      owner: 'a:1',
      source: i % 2 === 0 ? 'owner' : 'forwarded',
      degraded: false,
    };
  });
}

function statement(node: string): Statement {
  const clientId = CLIENTS[SPARE]!.id;
  const names = { scope: undefined, policy: undefined };
  const bucket = { ...names, algorithm: 'token-bucket' as const, windowMs: HOUR_MS, limit: LIMIT };
  return {
    node,
    members: IDS,
    owners: [{ owner: 'a:1', successors: ['b:1'] }],
    clients: [{ clientId, owner: 'a:1', buckets: [{ ...bucket, remaining: 0, resetMs: HOUR_MS - 1_000 }] }],
  };
}

function checked(more: Partial<Checked> & { asked?: readonly Asked[] } = {}): Checked {
  return {
    history: { asked: more.asked ?? asked(), pacedMs: 1_000, stalledMs: 5, due: 1_000, unsent: 0 },
    clients: CLIENTS,
    ids: IDS,
    faults: [],
    statements: IDS.map(statement),
    clientIds: [CLIENTS[SPARE]!.id],
    replicas: 1,
    endMs: 2_000,
    ...more,
  };
}

/** The history with one answer changed. */
function changed(place: number, change: Partial<Asked>): Checked {
  return checked({ asked: asked().map((one, i) => (i === place ? { ...one, ...change } : one)) });
}

function namesOf(of: Checked): CheckName[] {
  return [...new Set(violationsOf(of).map(({ check }) => check))];
}

describe('a history of real nodes, to the checker of the simulator,', () => {
  it('is faultless as it is', () => {
    expect(violationsOf(checked())).to.deep.equal([]);
    expect(checkedFigures(checked()).every(({ ok }) => ok)).to.equal(true);
  });

  it('shows one more than the limit', () => {
    expect(namesOf(changed(20, { allowed: true, status: 200, retryAfterMs: 0 }))).to.include('admission');
  });

  it('shows what the crash of another than the owner does not excuse', () => {
    const { asked } = changed(20, { allowed: true, status: 200, retryAfterMs: 0 }).history;
    const crash = (node: string) => [{ kind: 'crash' as const, node, silent: false, fromMs: 1_190, toMs: 1_190 }];
    expect(namesOf(checked({ asked, faults: crash('b:1') }))).to.include('admission');
    expect(namesOf(checked({ asked, faults: crash('a:1') }))).to.deep.equal([]);
  });

  it('shows a denial without cause', () => {
    const denied = { allowed: false, status: 429, retryAfterMs: 1_000 };
    expect(namesOf(changed(3, denied))).to.include('denial');
  });

  for (const [what, change] of Object.entries({
    remaining: { remaining: 9 },
    retryAfterMs: { retryAfterMs: HOUR_MS },
    resetMs: { resetMs: 1_000 },
    degraded: { degraded: true },
  })) {
    it(`shows a false ${what}`, () => expect(namesOf(changed(22, change))).to.deep.equal(['truth']));
  }

  it('shows a request without an answer, and one answered late', () => {
    expect(namesOf(changed(23, { status: 0, error: 'reset' }))).to.deep.equal(['answered']);
    expect(namesOf(changed(24, { receivedMs: 1_000 + 10 * 24 + 2_000 }))).to.deep.equal(['answered']);
  });

  it('shows nodes that do not agree on the members, the owners, or what is consumed', () => {
    const other = (change: Partial<Statement>) =>
      checked({ statements: [statement('a:1'), { ...statement('b:1'), ...change }] });
    expect(namesOf(other({ members: ['b:1'] }))).to.deep.equal(['agreement']);
    expect(namesOf(other({ owners: [{ owner: 'b:1', successors: ['a:1'] }] }))).to.deep.equal(['agreement']);
    const [client] = statement('b:1').clients;
    expect(namesOf(other({ clients: [{ ...client!, buckets: [] }] }))).to.deep.equal(['copies']);
  });

  it('is judged as at one time, whenever a node was asked', () => {
    const [client] = statement('b:1').clients;
    expect(asAt(client!, 1_500, 2_000).buckets[0]!.resetMs).to.equal(HOUR_MS - 1_500);
  });
});
