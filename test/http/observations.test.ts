import { expect } from 'chai';
import { StatsSchema, TopSchema } from '../../src/validate/schema.js';
import type { RunningNode } from '../../src/main.js';
import { allow, call, expectProblem, expectShape, liveNode, newClient, OWNER } from '../support/http.js';

interface Top {
  readonly clients: readonly { clientId: string; policy?: string; count: number; error: number }[];
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
    const node = await liveNode();
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
