import { expect } from 'chai';
import { ClusterClient, type Client } from '../../src/client/client.js';
import { readClientOptions, type ClientOptions } from '../../src/client/options.js';
import { FetchConnections } from '../../src/client/nodes/transport.js';
import type { AllowRequest } from '../../src/limits/request/request.js';
import { arrived, createFakeTime, type FakeTime } from '../support/fake-time.js';
import { ALLOWED, DENIED, startStubNode, type StubNode, type StubOptions } from '../support/stub-node.js';

const RULE = { limit: 10, window: 10_000 } as const;

describe('the questions of a client', () => {
  let time: FakeTime;
  let node: StubNode;
  let client: Client;
  async function open(stub: StubOptions = {}, options: Partial<ClientOptions> = {}): Promise<void> {
    time = createFakeTime();
    node = await startStubNode(stub);
    client = new ClusterClient(new FetchConnections(), time, readClientOptions({ nodes: [node.url], ...options }));
  }
  afterEach(async () => {
    await client.close();
    await node.close();
  });
  const sizes = (): number[] => node.batches.map(({ requests }) => requests.length);
  const ask = (count: number, more: object = {}): Promise<unknown> =>
    client.checkMany(Array.from({ length: count }, (_, i) => ({ clientId: `c${i}`, ...RULE, ...more })));

  it('go together when they come together, and alone at once when nothing is under way', async () => {
    await open();
    await ask(1);
    await ask(7);
    expect(sizes()).to.deep.equal([1, 7]);
  });

  it('wait while two batches are under way, and then go as one', async () => {
    await open({ decide: () => undefined });
    const asked: Promise<unknown>[] = [];
    for (let i = 0; i < 5; i += 1) {
      asked.push(ask(3));
      await arrived();
    }
    expect(sizes()).to.deep.equal([3, 3]);
    node.batches[1]!.answer(ALLOWED);
    await arrived();
    expect(sizes()).to.deep.equal([3, 3, 9]);
    for (const i of [0, 2]) node.batches[i]!.answer(ALLOWED);
    await Promise.all(asked);
  });

  it('go in batches of at most 1,000 and of at most 1 MiB, in order', async () => {
    await open();
    await ask(2_500);
    expect(sizes()).to.deep.equal([1_000, 1_000, 500]);
    expect(node.batches.flatMap(({ requests }) => requests.map(({ clientId }) => clientId))).to.deep.equal(
      Array.from({ length: 2_500 }, (_, i) => `c${i}`),
    );
    node.batches.length = 0;
    await ask(40, { policy: 'x'.repeat(60_000), limit: undefined, window: undefined });
    expect(sizes()).to.deep.equal([17, 17, 6]);
  });

  it('have the id of their batch and their place there, unless they have one of their own', async () => {
    await open();
    await ask(3);
    await ask(1, { peek: true });
    await ask(1, { requestId: 'mine' });
    const ids = node.batches.flatMap(({ requests }) => requests.map(({ requestId }) => requestId));
    expect(ids).to.deep.equal([undefined, undefined, undefined, undefined, 'mine']);
    const batchIds = node.batches.map(({ requestId }) => requestId);
    expect(new Set(batchIds)).to.have.lengthOf(3);
    for (const id of batchIds) expect(id).to.match(/^[\w-]{17,30}$/);
  });

  it('say what their caller asked, whatever was asked before', async () => {
    await open();
    const plain = { clientId: 'a', limit: 10, window: '1m' } as const;
    const requests: AllowRequest[] = [
      plain,
      { ...plain, clientId: 'a "quoted" é' },
      { ...plain, limit: 11 },
      { ...plain, burst: undefined } as unknown as AllowRequest,
      { clientId: 'b', window: '1m', limit: 10 },
      { limit: 10, window: '1m', clientId: 'c' },
      { clientId: 'd', limits: [{ limit: 1, window: 1 }] },
      { clientId: 'e', limits: [{ limit: 2, window: 1 }] },
      { ...plain, cost: 2 },
      { ...plain, peek: true },
      { ...plain, requestId: 'mine' },
      plain,
      Object.assign(Object.create({ limit: 10, window: '1m' }) as object, { clientId: 'f' }),
      { clientId: 'g', limit: 10, window: '1m', toJSON: () => ({ ...plain, clientId: 'h' }) } as AllowRequest,
      plain,
    ];
    await Promise.all(requests.map((request) => client.check(request)));
    const withoutId = (request: unknown): object => ({ ...(request as object), requestId: undefined });
    const asked = node.batches.flatMap((batch) => batch.requests.map(withoutId));
    expect(asked).to.deep.equal(requests.map((request) => withoutId(JSON.parse(JSON.stringify(request)))));
    for (const empty of [
      Object.create(plain),
      Object.create({}, { clientId: { value: 'hidden' } }),
    ] as AllowRequest[]) {
      const error = await client.check(empty).catch((reason: unknown) => reason);
      expect(error).to.include({ code: 'invalid_request', field: 'clientId' });
    }
  });

  describe('about whom a denial is remembered', () => {
    const denied = (client_: Client, more: object = {}): Promise<{ allowed: boolean; source: string }> =>
      client_.check({ clientId: 'abuser', ...RULE, ...more });
    const deny: StubOptions = { decide: (batch) => batch.answer(DENIED) };

    it('are not put before its time is over, counted from when the first was put', async () => {
      await open({ decide: () => undefined });
      const first = denied(client);
      await arrived();
      await time.pass(100);
      node.batches[0]!.answer(DENIED);
      expect(await first).to.deep.include({ allowed: false, source: 'owner', retryAfterMs: 400 });
      await time.pass(200);
      expect(await denied(client)).to.deep.include({ allowed: false, source: 'deny-cache', retryAfterMs: 200 });
      await time.pass(99);
      expect(await denied(client)).to.deep.include({ source: 'deny-cache', retryAfterMs: 101 });
      await time.pass(1);
      const again = denied(client);
      await arrived();
      expect(node.batches).to.have.lengthOf(2);
      node.batches[1]!.answer(ALLOWED);
      expect(await again).to.include({ allowed: true });
    });

    it('are put where they are others: of another client, scope, limit, algorithm, policy, or of a smaller cost', async () => {
      await open(deny);
      await denied(client, { cost: 2 });
      const others: object[] = [
        { cost: 1 },
        { cost: 2, clientId: 'Abuser' },
        { cost: 2, scope: 'reports' },
        { cost: 2, limit: undefined, window: undefined, policy: 'p', scope: 'reports' },
        { cost: 2, limit: 11 },
        { cost: 2, window: 9_999 },
        { cost: 2, burst: 20 },
        { cost: 2, algorithm: 'sliding-window' },
        { cost: 2, limit: undefined, window: undefined, policy: 'p' },
        { cost: 2, limit: undefined, window: undefined },
        { cost: 2, limit: undefined, window: undefined, limits: [RULE, { limit: 5, window: '1d' }] },
        { cost: 2, requestId: 'r' },
      ];
      for (const [i, other] of others.entries()) {
        await denied(client, { cost: 2, window: 10_000 });
        const before = node.batches.length;
        expect(await denied(client, other), String(i)).to.include({ source: 'owner' });
        expect(node.batches.length, String(i)).to.equal(before + 1);
      }
    });

    it('are answered without the node for the same limit, however it is written, and for larger costs', async () => {
      await open(deny);
      await denied(client);
      for (const same of [{}, { window: '10s' }, { window: undefined, windowMs: 10_000 }, { burst: 10 }, { cost: 3 }])
        expect(await denied(client, same)).to.include({ allowed: false, source: 'deny-cache' });
      expect(node.batches).to.have.lengthOf(1);
      const byName = { limit: undefined, window: undefined, policy: 'p' };
      await denied(client, byName);
      expect(await denied(client, byName)).to.include({ source: 'deny-cache' });
      // What larger costs wait for is the policy's to say.
      expect(await denied(client, { ...byName, cost: 2 })).to.include({ source: 'owner' });
    });

    it('are put again after a second at the latest: nobody tells of a reset, or of a policy that was changed', async () => {
      await open({ decide: (batch) => batch.answer({ ...DENIED, retryAfterMs: null }) });
      await denied(client);
      await time.pass(999);
      expect(await denied(client)).to.include({ source: 'deny-cache' });
      await time.pass(1);
      expect(await denied(client)).to.include({ source: 'owner' });
    });

    it('are all put where that is wanted, or the denial was nobody’s who knows', async () => {
      await open(deny, { rememberDenialsMs: 0 });
      for (let i = 0; i < 3; i += 1) expect(await denied(client)).to.include({ source: 'owner' });
      await client.close();
      await node.close();
      await open({ decide: (batch) => batch.answer({ ...DENIED, source: 'fallback', degraded: true }) });
      for (let i = 0; i < 3; i += 1) expect(await denied(client)).to.include({ source: 'fallback' });
      expect(node.batches).to.have.lengthOf(3);
    });

    it('are of so many clients at most', async () => {
      await open(deny, { maxDenials: 10 });
      await ask(20);
      await ask(20);
      expect(sizes()).to.deep.equal([20, 10]);
    });
  });

  it('cost a look at the members now and then, and none while there are no questions', async () => {
    await open({ cluster: () => ({ self: 'stub:1', ringChecksum: 'x', members: [] }) }, { refreshMs: 1_000 });
    await arrived();
    const idle = node.looks;
    await time.pass(10_000);
    expect(node.looks).to.equal(idle);
    for (let i = 0; i < 10; i += 1) {
      await ask(1);
      await time.pass(1_000);
    }
    expect(node.looks - idle).to.be.within(5, 25);
  });
});
