import { expect } from 'chai';
import {
  createClient,
  TokenringError,
  type Client,
  type ClientOptions,
  type Decision,
} from '../../src/client/index.js';
import { errorOf } from '../support/error-of.js';
import { startTestRing, type TestRing } from '../support/ring.js';

const DAY = { limit: 10, window: '1d' } as const;
const ids = (count: number, name = 'client'): string[] => Array.from({ length: count }, (_, i) => `${name} ${i}`);

/** Asks until what is asked is decided by the owner each time: the ring is known then. */
async function learnt(client: Client): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    const requests = ids(30, `warm-up ${tries}`).map((clientId) => ({ clientId, ...DAY }));
    const decisions = (await client.checkMany(requests)) as Decision[];
    if (decisions.every(({ source }) => source === 'owner')) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect.fail('the client does not come to know the ring');
}

describe('a client of a ring', function () {
  this.timeout(60_000);
  let ring: TestRing;
  const clients: Client[] = [];
  const open = (options: Partial<ClientOptions> = {}): Client => {
    const client = createClient({ nodes: ring.urls.slice(0, 1), ...options });
    clients.push(client);
    return client;
  };
  before(async () => {
    ring = await startTestRing(3, ['--admin-token', 'hunter2']);
  });
  after(async () => {
    await Promise.all(clients.map((client) => client.close()));
    await ring.close();
  });

  it('says whether a client may, at once', async () => {
    const client = open();
    const allowed: boolean[] = [];
    for (let i = 0; i < 4; i += 1) allowed.push(await client.allow('alice', 3, 86_400_000));
    expect(allowed).to.deep.equal([true, true, true, false]);
    expect(await client.allow('alice', 5, '1h', { cost: 5 })).to.equal(true);
    expect(await client.allow('alice', 5, '1h', { cost: 1, burst: 5 })).to.equal(false);
  });

  it('asks the owner of each client directly, as soon as it knows the ring from any one node', async () => {
    const client = open();
    await learnt(client);
    const decisions = (await client.checkMany(ids(300).map((clientId) => ({ clientId, ...DAY })))) as Decision[];
    expect(new Set(decisions.map(({ source }) => source))).to.deep.equal(new Set(['owner']));
    expect(new Set(decisions.map(({ owner }) => owner))).to.have.lengthOf(3);
  });

  it('answers in full, for any id', async () => {
    const client = open();
    for (const clientId of ['__proto__', 'constructor', '😀', 'a\u0000b', '..', ' ', '"'.repeat(256)]) {
      const limits = [
        { limit: 10, windowMs: 3_600_000 },
        { limit: 99, window: '1d', algorithm: 'sliding-window' } as const,
      ];
      const decision = await client.check({ clientId, limits, cost: 4 });
      expect(decision, clientId).to.include({ allowed: true, limit: 10, remaining: 6, degraded: false });
      expect(decision.limits?.map(({ remaining }) => remaining)).to.deep.equal([6, 95]);
      const { buckets } = await client.describe(clientId);
      expect(buckets.map(({ remaining }) => remaining).sort(), clientId).to.deep.equal([6, 95]);
    }
  });

  it('charges a repeat under the same request id once, and gives others ids of its own', async () => {
    const client = open();
    const ask = (more: object): Promise<Decision> => client.check({ clientId: 'repeats', ...DAY, ...more });
    expect((await ask({ requestId: 'a' })).remaining).to.equal(9);
    expect((await ask({ requestId: 'a' })).remaining).to.equal(9);
    expect((await ask({})).remaining).to.equal(8);
    expect((await ask({})).remaining).to.equal(7);
    expect((await ask({ peek: true })).remaining).to.equal(7);
  });

  it('has what is wrong with a question as an error that names the field, and spoils no other with it', async () => {
    const client = open();
    const wrong: [request: unknown, field: string][] = [
      [{ clientId: '', ...DAY }, 'clientId'],
      [{ clientId: 'a'.repeat(257), ...DAY }, 'clientId'],
      [{ clientId: '\ud800', ...DAY }, 'clientId'],
      [{ clientId: 7, ...DAY }, 'clientId'],
      [{ ...DAY }, 'clientId'],
      [{ clientId: 'a', limit: -1, window: 1 }, 'limit'],
      [{ clientId: 'a', limit: NaN, window: 1 }, 'limit'],
      [{ clientId: 'a', limit: 1, window: '1 minute' }, 'window'],
      [{ clientId: 'a', ...DAY, cost: 0.5 }, 'cost'],
      [{ clientId: 'a', ...DAY, lmit: 1 }, 'lmit'],
      [{ clientId: 'a', ...DAY, requestId: '' }, 'requestId'],
      [{ clientId: 'a', limits: [{ limit: 1, window: 1 }, { limit: 2 }] }, 'limits[1].window'],
      [undefined, 'body'],
      [[], 'body'],
      [{ clientId: 'a', ...DAY, cost: 1n }, 'body'],
      [{ clientId: 'a'.repeat(70_000), ...DAY }, 'body'],
    ];
    const requests = wrong.flatMap(([request], i) => [request, { clientId: `beside ${i}`, ...DAY }]);
    const results = await client.checkMany(requests as Parameters<Client['checkMany']>[0]);
    for (const [i, [, field]] of wrong.entries()) {
      const error = results[2 * i];
      expect(error, field).to.be.instanceOf(TokenringError);
      expect(error).to.include({ field });
      expect((error as TokenringError).code).to.equal(i === wrong.length - 1 ? 'too_large' : 'invalid_request');
      expect((error as TokenringError).expected, field).to.be.a('string');
      expect((error as TokenringError).item, field).to.equal(2 * i);
      expect(results[2 * i + 1]).to.include({ allowed: true, remaining: 9 });
    }
    const unknown = await errorOf(client.check({ clientId: 'a', policy: 'nope' }));
    expect(unknown)
      .to.be.instanceOf(TokenringError)
      .and.to.include({ code: 'unknown_policy', status: 400, field: 'policy' });
  });

  it('reserves what is known later, and settles it', async () => {
    const client = open();
    const { reservation, remaining } = await client.reserve({ clientId: 'later', ...DAY, cost: 5 });
    expect(remaining).to.equal(5);
    const settled = await client.settle(reservation!, 2);
    expect({ ...settled, resetMs: 0 }).to.deep.equal({
      cost: 2,
      reserved: 5,
      limit: 10,
      remaining: 8,
      resetMs: 0,
    });
    expect((await client.settle(reservation!, 9)).cost).to.equal(2);
    const taken = await client.reserve({ clientId: 'back', ...DAY, cost: 10 });
    expect(await client.allow('back', 10, '1d')).to.equal(false);
    await client.settle(taken.reservation!, 3);
    expect(await client.allow('back', 10, '1d')).to.equal(true);
    for (const [wrong, code] of [
      ['bGF0ZXI.AAAAAAAAAAAAAAAAAAAAAAAA', 'unknown_reservation'],
      ['nonsense', 'invalid_request'],
      [undefined, 'invalid_request'],
    ] as [string, string][]) {
      expect(await errorOf(client.settle(wrong, 1)), wrong).to.include({ code, field: 'reservation' });
    }
  });

  it('tells what is left, and forgets a client on every node with an admin token', async () => {
    const client = open();
    await client.check({ clientId: 'reset', ...DAY, cost: 10 });
    expect(await client.remaining('reset', 10, '1d')).to.equal(0);
    expect(await client.allow('reset', 10, '1d')).to.equal(false);
    expect(await errorOf(client.reset('reset'))).to.include({ code: 'unauthorized' });
    const admin = open({ token: 'hunter2', nodes: ring.urls.slice(2) });
    expect(await admin.allow('reset', 10, '1d')).to.equal(false);
    await admin.reset('reset');
    expect(await admin.allow('reset', 10, '1d'), 'its own memory of the denial is gone, too').to.equal(true);
    expect(await admin.remaining('reset', 10, '1d')).to.equal(9);
  });

  it('says that a load is reported to a policy that follows none', async () => {
    expect(await errorOf(open().reportLoad('nope', { load: 0.5 }))).to.include({ code: 'not_found', status: 404 });
  });

  it('rejects an option that is unknown or not valid, and tells no token', () => {
    const nodes = ['http://127.0.0.1:1'];
    const wrong: [options: object, message: RegExp][] = [
      [undefined as unknown as object, /^createClient: expected \{ nodes: a list of 1 to 100 addresses/],
      [{}, /^nodes: missing, expected a list of 1 to 100 addresses, as http:/],
      [{ nodes: [] }, /^nodes: \[\] is not valid/],
      [{ nodes: 'http://a:1' }, /^nodes: 'http:\/\/a:1' is not valid/],
      [{ nodes: ['a:1'] }, /^nodes/],
      [{ nodes: ['http://u:p@a:1'] }, /^nodes/],
      [{ nodes: ['http://a:1/path'] }, /^nodes/],
      [{ nodes, token: 'hunter2 x' }, /^token: the value given is not valid/],
      [{ nodes, tls: true }, /^tls/],
      [{ nodes, timeoutMs: 0 }, /^timeoutMs: 0 is not valid, expected a whole number from 10 to 30000/],
      [{ nodes, onUnavailable: 'panic' }, /^onUnavailable: 'panic' is not valid, expected open, closed or throw/],
      [{ nodes, maxDenials: 0 }, /^maxDenials/],
      [{ nodes, timoutMs: 10 }, /^timoutMs: there is no such option; did you mean `timeoutMs`\?$/],
      [{ nodes, agent: 1 }, /^agent: there is no such option; expected one of nodes, pinned, token, /],
      [null as unknown as object, /^createClient: expected \{ nodes: a list of 1 to 100 addresses/],
    ];
    for (const [options, message] of wrong)
      expect(() => createClient(options as ClientOptions), String(message)).to.throw(TypeError, message);
  });

  it('answers what is under way when it is closed, and rejects all that comes after', async () => {
    const client = open();
    const asked = client.check({ clientId: 'last', ...DAY });
    await client.close();
    await client.close();
    expect(await asked).to.include({ allowed: true });
    for (const late of [client.allow('a', 1, 1), client.settle('a', 1), client.describe('a'), client.reset('a')])
      expect(await errorOf(late))
        .to.be.instanceOf(TokenringError)
        .and.to.include({ code: 'closed' });
  });

  it('settles what is being settled when it is closed, whoever closes it twice', async () => {
    const client = open();
    const { reservation } = await client.reserve({ clientId: 'settled last', ...DAY, cost: 5 });
    const ends: string[] = [];
    const settled = client.settle(reservation!, 1).then(({ cost }) => ends.push(`cost ${cost}`));
    await Promise.all([client.close(), client.close()].map((close) => close.then(() => ends.push('closed'))));
    await settled;
    expect(ends).to.deep.equal(['cost 1', 'closed', 'closed']);
  });
});

describe('a client of a ring that changes', function () {
  this.timeout(120_000);

  it('comes to know of it by the answers', async () => {
    const ring = await startTestRing(2, [], 1);
    const client = createClient({ nodes: ring.urls.slice(0, 1), refreshMs: 600_000 });
    await learnt(client);
    await ring.start(2);
    await learnt(client);
    const owners = (await client.checkMany(ids(100).map((clientId) => ({ clientId, ...DAY })))) as Decision[];
    expect(new Set(owners.map(({ owner }) => owner))).to.have.lengthOf(3);
    await client.close();
    await ring.close();
  });

  it('has every question answered, and each limit held, while nodes join and leave', async () => {
    // All nodes share this process, which stalls while one starts: none is to take that for an absence.
    const ring = await startTestRing(3, ['--suspect-after-ms', '5000'], 1);
    const client = createClient({ nodes: ring.urls.slice(0, 2), refreshMs: 1_000 });
    const allowed = new Map<string, number>();
    const failures: unknown[] = [];
    let asked = 0;
    let over = false;
    const isOver = (): boolean => over;
    const asking = (async () => {
      for (; !isOver() || asked < 1_000; asked += 1) {
        const clientId = `client ${asked % 50}`;
        const decision = await client.check({ clientId, ...DAY }).catch((error: unknown) => error);
        if (!(decision instanceof Object && 'allowed' in decision)) failures.push(decision);
        else if ((decision as Decision).allowed) allowed.set(clientId, (allowed.get(clientId) ?? 0) + 1);
      }
    })();
    await ring.start(3);
    await ring.stop(1);
    await ring.start(1);
    // One of those that the client was told of; and the one that it was not.
    await Promise.all([ring.stop(0), ring.stop(3)]);
    await learnt(client);
    over = true;
    await asking;
    expect(failures).to.deep.equal([]);
    expect(allowed.size).to.equal(50);
    expect([...allowed.values()].filter((count) => count !== 10)).to.deep.equal([]);
    await client.close();
    await ring.close();
  });
});
