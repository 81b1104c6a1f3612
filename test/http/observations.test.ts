import type { Static } from '@sinclair/typebox';
import { expect } from 'chai';
import { StatsSchema, TopSchema } from '../../src/server/validate/schema.js';
import type { RunningNode } from '../../src/app/main.js';
import { createClient } from '../../src/client/index.js';
import { allow, call, expectProblem, expectShape, liveNode, newClient, OWNER, type Answer } from '../support/http.js';

interface Top {
  readonly clients: readonly Static<typeof TopSchema>['clients'][number][];
  readonly missing: readonly string[];
}

describe('/v1/top', () => {
  let node: RunningNode;
  before(async () => {
    // A node of its own: clients of other tests would be in its lists.
    node = await liveNode('--max-clients', '1001');
  });

  async function top(query = ''): Promise<Top> {
    const answer = await call(node, `/v1/top${query}`);
    expect(answer.status, answer.text).to.equal(200);
    expectShape(TopSchema, answer.json);
    return answer.json as Top;
  }

  it('lists the clients that are denied most, and others that ask or consume more', async () => {
    const denied = newClient();
    for (let i = 0; i < 4; i += 1) await allow(node, { clientId: denied, limit: 1, window: '1d' });
    const costly = newClient();
    await allow(node, { clientId: costly, limit: 1e6, window: '1d', cost: 1e5 });
    const first = (await top()).clients.find(({ clientId }) => clientId === denied)!;
    expect(first.count).to.be.closeTo(3, 0.1);
    expect(first.error).to.equal(0);
    expect((await top('?by=cost&span=hour')).clients[0]!.clientId).to.equal(costly);
    expect((await top('?by=asked&limit=1')).clients).to.have.length(1);
    expect((await top('?by=asked&policy=none')).clients).to.deep.equal([]);
  });

  it('refuses what it does not know, and names it', async () => {
    for (const [query, field] of [
      ['by=most', 'by'],
      ['span=day', 'span'],
      ['limit=0', 'limit'],
      ['limit=65', 'limit'],
      ['limit=1e1', 'limit'],
      ['policy=', 'policy'],
      ['by=asked&by=cost', 'by'],
      ['window=1m', 'window'],
    ]) {
      expectProblem(await call(node, `/v1/top?${query}`), 'invalid_request', field);
    }
  });
});

describe('/v1/stats', () => {
  it('counts the decisions of each member', async () => {
    // A node of its own: an answer that another test got is given again for a second.
    const node = await liveNode('--max-clients', '1002');
    await allow(node, { clientId: newClient(), limit: 1, window: '1d' });
    const answer = await call(node, '/v1/stats');
    expectShape(StatsSchema, answer.json);
    const { members } = answer.json as {
      members: { id: string; stats: { allowed: { owner: number }; durations: number[]; memoryBytes: number } }[];
    };
    expect(members).to.have.length(1);
    expect(members[0]!.id).to.equal(OWNER);
    const { allowed, durations, memoryBytes } = members[0]!.stats;
    expect(allowed.owner).to.be.at.least(1);
    expect(durations.reduce((sum, count) => sum + count, 0)).to.be.at.least(1);
    expect(memoryBytes).to.be.above(10_000_000);
  });
});

describe('/v1/denials', () => {
  let node: RunningNode;
  before(async () => {
    // A node of its own: clients of other tests would be in its lists.
    node = await liveNode('--max-clients', '1002');
  });

  const report = (body: unknown): Promise<Answer> =>
    call(node, '/v1/denials', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const metric = async (name: string): Promise<number> => {
    const { text } = await call(node, '/metrics');
    return Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${name} `))
        ?.slice(name.length),
    );
  };
  const counted = async (by: string, clientId: string): Promise<Top['clients'][number] | undefined> => {
    const { json } = await call(node, `/v1/top?by=${by}`);
    return (json as Top).clients.find((one) => one.clientId === clientId);
  };

  it('shows what the SDK answers from memory: each denial, by source and by client', async () => {
    const clientId = newClient();
    const client = createClient({ nodes: [`http://127.0.0.1:${node.port}`] });
    const question = { clientId, limit: 1, window: '1d' } as const;
    expect(await client.check(question)).to.include({ allowed: true });
    let remembered = 0;
    for (let i = 0; i < 23_030; i += 1) if ((await client.check(question)).source === 'deny-cache') remembered += 1;
    expect(remembered).to.be.above(20_000);
    await client.close();
    expect(await metric('tokenring_decisions_total{outcome="denied",source="deny-cache"}')).to.equal(remembered);
    expect(await metric('tokenring_reported_denials_total')).to.equal(remembered);
    // Counts decay over a minute.
    for (const by of ['denied', 'asked']) {
      const { count, source } = (await counted(by, clientId))!;
      expect(count, by).to.be.within(18_000, 23_032);
      expect(source.node + source.sdk, by).to.be.closeTo(count, 1);
      expect(source.sdk, by).to.be.within(18_000, remembered);
    }
  });

  it('refuses what no client can have counted, and names it', async () => {
    const one = { clientId: 'a', denied: 1 };
    for (const [body, field] of [
      [{ clients: [] }, 'denied'],
      [{ denied: 0, clients: [] }, 'denied'],
      [{ denied: 1_000_001, clients: [] }, 'denied'],
      [{ denied: 1, clients: [one, one] }, 'denied'],
      [{ denied: 65, clients: Array.from({ length: 65 }, () => one) }, 'clients'],
      [{ denied: 1, clients: [{ clientId: '', denied: 1 }] }, 'clients[0].clientId'],
      [{ denied: 1, clients: [{ clientId: 'a', denied: 1, policy: false }] }, 'clients[0].policy'],
    ] as const)
      expectProblem(await report(body), 'invalid_request', field);
  });

  it('takes no name of a policy that there is not, and changes no decision', async () => {
    const clientId = newClient();
    const body = { denied: 1_000, clients: [{ clientId, policy: 'made up', denied: 1_000 }] };
    expect((await report(body)).status).to.equal(204);
    expect(await counted('denied', clientId)).to.equal(undefined);
    expect(await allow(node, { clientId, limit: 2, window: '1d' })).to.include({ allowed: true, remaining: 1 });
  });

  it('takes so many a second and no more', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, () => report({ denied: 1_000_000, clients: [] })));
    const refused = answers.filter(({ status }) => status !== 204);
    for (const answer of refused) expectProblem(answer, 'overloaded');
    expect(refused.length).to.be.above(0);
  });
});
