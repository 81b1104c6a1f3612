import { expect } from 'chai';
import { ClientSchema } from '../../src/server/validate/schema.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, expectShape, liveNode, newClient, OWNER, type Answer } from '../support/http.js';

const TOKEN = 'the-Admin.token_7';

interface Client {
  readonly clientId: string;
  readonly owner: string;
  readonly buckets: readonly {
    scope?: string;
    algorithm: string;
    windowMs: number;
    limit: number;
    remaining: number;
    resetMs: number;
  }[];
}

describe('/v1/clients/{id}', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode('--admin-token', TOKEN);
  });

  const address = (clientId: string): string => `/v1/clients/${encodeURIComponent(clientId)}`;
  async function look(clientId: string): Promise<Client> {
    const answer = await call(node, address(clientId));
    expect(answer.status, answer.text).to.equal(200);
    expectShape(ClientSchema, answer.json);
    return answer.json as Client;
  }
  const forget = (clientId: string, authorization?: string): Promise<Answer> =>
    call(node, address(clientId), { method: 'DELETE', headers: authorization === undefined ? {} : { authorization } });

  it('shows what a client has consumed, and consumes nothing', async () => {
    const clientId = newClient();
    await allow(node, { clientId, limit: 10, window: '1d', cost: 4 });
    await allow(node, { clientId, limit: 3, window: '1h', algorithm: 'sliding-window' });
    for (let i = 0; i < 3; i += 1) {
      const { buckets, ...client } = await look(clientId);
      expect(client).to.deep.equal({ clientId, owner: OWNER });
      const figures = buckets.map(({ algorithm, windowMs, limit, remaining }) => [
        algorithm,
        windowMs,
        limit,
        remaining,
      ]);
      expect(figures).to.have.deep.members([
        ['token-bucket', 86_400_000, 10, 6],
        ['sliding-window', 3_600_000, 3, 2],
      ]);
      const bucket = buckets.find(({ limit }) => limit === 10);
      expect(bucket?.resetMs).to.be.within(34_500_000, 34_560_000);
    }
  });

  it('shows the buckets of all scopes, each with its scope, and forgets them all', async () => {
    const clientId = newClient();
    for (const scope of [undefined, 'reports', 'größe 💧'])
      for (let n = 0; n < 2; n += 1) await allow(node, { clientId, scope, limit: 10, window: '1d' });
    const { buckets } = await look(clientId);
    expect(buckets.map(({ scope, remaining }) => [scope, remaining])).to.have.deep.members([
      [undefined, 8],
      ['reports', 8],
      ['größe 💧', 8],
    ]);
    expect((await forget(clientId, `Bearer ${TOKEN}`)).status).to.equal(204);
    expect((await look(clientId)).buckets).to.deep.equal([]);
  });

  it('shows a client that never asked with no buckets, and makes none', async () => {
    const clientId = newClient();
    expect(await look(clientId)).to.deep.equal({ clientId, owner: OWNER, buckets: [] });
    expect(await look(clientId)).to.deep.equal({ clientId, owner: OWNER, buckets: [] });
  });

  it('finds any client by its percent-encoded id', async () => {
    for (const name of [
      '__proto__',
      'constructor',
      'a/b',
      '..',
      '?x=1#y',
      '100%',
      ' ',
      '\0',
      '🦉',
      '+',
      'x'.repeat(256),
    ]) {
      await allow(node, { clientId: name, limit: 10, window: '1d' });
      const { clientId, buckets } = await look(name);
      expect({ clientId, remaining: buckets[0]?.remaining }).to.deep.equal({ clientId: name, remaining: 9 });
    }
  });

  it('refuses an id that no client can have', async () => {
    expectProblem(await call(node, address('x'.repeat(257))), 'invalid_request', 'clientId');
    expectProblem(await call(node, address('€'.repeat(86))), 'invalid_request', 'clientId');
    expectProblem(await call(node, '/v1/clients/'), 'not_found');
    expectProblem(await call(node, '/v1/clients/a/b'), 'not_found');
  });

  it('forgets a client for the bearer of the admin token', async () => {
    const question = { clientId: newClient(), limit: 1, window: '1d' };
    await allow(node, question);
    expect((await allow(node, question)).allowed).to.equal(false);
    for (const authorization of [`Bearer ${TOKEN}`, `bearer ${TOKEN}`, `BEARER   ${TOKEN}`]) {
      const answer = await forget(question.clientId, authorization);
      expect(answer).to.include({ status: 204, text: '' });
      expect((await look(question.clientId)).buckets).to.deep.equal([]);
      expect((await allow(node, question)).allowed).to.equal(true);
    }
  });

  it('forgets nothing for anyone else', async () => {
    const question = { clientId: newClient(), limit: 1, window: '1d' };
    await allow(node, question);
    const wrong = [
      '',
      TOKEN,
      'Bearer',
      'Bearer ',
      `Basic ${TOKEN}`,
      `Bearer ${TOKEN}x`,
      `Bearer ${TOKEN.slice(0, -1)}`,
      `Bearer ${TOKEN.toLowerCase()}`,
      'Bearer undefined',
      `Bearer ${TOKEN} x`,
      'Bearer \xe9',
    ];
    for (const authorization of [undefined, ...wrong]) {
      const answer = await forget(question.clientId, authorization);
      expectProblem(answer, 'unauthorized', 'Authorization');
      expect(answer.headers['www-authenticate']).to.match(/^Bearer/);
      expect(answer.text).not.to.include(TOKEN);
    }
    expect((await allow(node, question)).allowed).to.equal(false);
  });

  it('forgets nothing at all on a node without an admin token', async () => {
    const open = await liveNode();
    for (const authorization of ['', 'Bearer', 'Bearer undefined', `Bearer ${TOKEN}`]) {
      const answer = await call(open, address('x'), { method: 'DELETE', headers: { authorization } });
      expectProblem(answer, 'forbidden');
    }
  });

  it('says which methods it takes', async () => {
    for (const method of ['POST', 'PUT', 'PATCH', 'OPTIONS']) {
      const answer = await call(node, address('x'), { method });
      expectProblem(answer, 'method_not_allowed');
      expect(answer.headers['allow']).to.equal('GET, DELETE, HEAD');
    }
  });
});
