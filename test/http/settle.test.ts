import { expect } from 'chai';
import { SettlementSchema } from '../../src/server/validate/schema.js';
import { createClient } from '../../src/client/index.js';
import { createNode, TokenringError } from '../../src/index.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, expectProblem, expectShape, liveNode, newClient, post } from '../support/http.js';

describe('POST /v1/settle', () => {
  let node: RunningNode;
  before(async () => {
    node = await liveNode();
  });
  const question = (more: object = {}): object => ({ clientId: newClient(), limit: 100, window: '1d', ...more });

  it('replaces the cost of an allowed request by the real one, once', async () => {
    const asked = question({ cost: 60, reserve: true }) as { clientId: string };
    const { allowed, reservation } = await allow(node, asked);
    expect(allowed).to.equal(true);
    for (const cost of [25, 0, 100]) {
      const answer = await post(node, '/v1/settle', { reservation, cost });
      expect(answer.status, answer.text).to.equal(200);
      expectShape(SettlementSchema, answer.json);
      const { resetMs, ...rest } = answer.json as { resetMs: number };
      expect(rest).to.deep.equal({
        reservation,
        clientId: asked.clientId,
        cost: 25,
        reserved: 60,
        limit: 100,
        remaining: 75,
      });
      expect(resetMs).to.be.within(21_500_000, 21_600_000);
    }
    expect(await allow(node, { ...asked, reserve: undefined, cost: 75 })).to.include({ allowed: true, remaining: 0 });
  });

  it('names no reservation where nothing is taken', async () => {
    const asked = question({ cost: 60, reserve: true });
    expect(await allow(node, asked)).to.have.property('reservation');
    expect(await allow(node, asked)).not.to.have.property('reservation');
    expect(await allow(node, question())).not.to.have.property('reservation');
    expectProblem(await post(node, '/v1/allow', question({ reserve: true, peek: true })), 'invalid_request', 'reserve');
  });

  it('names the same reservation again for the same request id, and another for another', async () => {
    const asked = question({ cost: 10, reserve: true, requestId: 'q' });
    const first = await allow(node, asked);
    expect(await allow(node, asked)).to.deep.equal(first);
    const other = await allow(node, { ...asked, requestId: 'p' });
    expect(other.reservation).not.to.equal(first.reservation);
    await post(node, '/v1/settle', { reservation: first.reservation, cost: 0 });
    expect(await allow(node, { ...asked, requestId: undefined, reserve: false, peek: true })).to.include({
      remaining: 90,
    });
  });

  it('refuses to name a reservation for a request id that was first used without one, also in a batch', async () => {
    const asked = question({ cost: 10, requestId: 'q' });
    const first = await allow(node, asked);
    const repeat = { ...asked, reserve: true };
    expectProblem(await post(node, '/v1/allow', repeat), 'invalid_request', 'reserve');
    const { json } = await post(node, '/v1/allow/batch', { requests: [asked, repeat, question({ reserve: true })] });
    const [same, refused, other] = (json as { results: { reservation?: string; error?: object }[] }).results;
    expect(same).to.deep.equal(first);
    expect(refused).to.have.nested.include({ 'error.code': 'invalid_request', 'error.field': 'reserve' });
    expect(other).to.have.property('reservation');
    // Of a denial, nothing could be settled.
    const denied = question({ limit: 0, requestId: 'd' });
    await post(node, '/v1/allow', denied);
    expect((await post(node, '/v1/allow', { ...denied, reserve: true })).json).to.include({ allowed: false });
  });

  it('works in a batch, under several limits, and for any client', async () => {
    const limits = [
      { limit: 100, window: '1d' },
      { limit: 50, window: '2d', algorithm: 'sliding-window' },
    ];
    for (const clientId of ['__proto__', '€', ' ', 'x'.repeat(256)]) {
      const { json } = await post(node, '/v1/allow/batch', {
        requests: [{ clientId, limits, cost: 40, reserve: true }],
      });
      const [{ reservation }] = (json as { results: [{ reservation: string }] }).results;
      expect(reservation).to.match(/^[\w-]+\.[\w-]+$/);
      const settled = await post(node, '/v1/settle', { reservation, cost: 15, clientId });
      expect(settled.json, settled.text).to.include({ clientId, remaining: 35 });
    }
  });

  it('refuses what is no reservation by name, and knows none that was not made', async () => {
    const { reservation = '' } = await allow(node, question({ reserve: true }));
    const [name, unique] = reservation.split('.') as [string, string];
    for (const wrong of ['x', `${name}.`, `.${unique}`, `${name}=.${unique}`, `${name}.${unique}x`, `_w.${unique}`]) {
      expectProblem(await post(node, '/v1/settle', { reservation: wrong, cost: 1 }), 'invalid_request', 'reservation');
    }
    expectProblem(await post(node, '/v1/settle', { reservation, cost: -1 }), 'invalid_request', 'cost');
    expectProblem(
      await post(node, '/v1/settle', { reservation, cost: 1, clientId: 'y' }),
      'invalid_request',
      'clientId',
    );
    expectProblem(await post(node, '/v1/settle', { reservation, cost: 1, x: 1 }), 'invalid_request', 'x');
    const other = `${name}.${unique.slice(12)}${unique.slice(0, 12)}`;
    expectProblem(
      await post(node, '/v1/settle', { reservation: other, cost: 1 }),
      'unknown_reservation',
      'reservation',
    );
    expectProblem(await call(node, '/v1/settle'), 'method_not_allowed');
  });

  it('is there in the library too', async () => {
    const library = await createNode();
    const { reservation } = await library.check({ clientId: 'a', limit: 9, window: '1d', cost: 9, reserve: true });
    expect(await library.settle(reservation!, 2)).to.include({ cost: 2, remaining: 7 });
    const unknown = reservation!.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'));
    const error: unknown = await library.settle(unknown, 2).catch((one: unknown) => one);
    expect(error).to.be.instanceOf(TokenringError).with.property('code', 'unknown_reservation');
    await library.close();
  });

  it('refuses the same in the library and in the client', async () => {
    const library = await createNode();
    const client = createClient({ nodes: [`http://127.0.0.1:${node.port}`] });
    for (const limiter of [library, client]) {
      const asked = { clientId: newClient(), limit: 9, window: '1d', requestId: 'q' } as const;
      expect(await limiter.check(asked)).to.include({ allowed: true });
      const error: unknown = await limiter.check({ ...asked, reserve: true }).catch((one: unknown) => one);
      expect(error).to.be.instanceOf(TokenringError).and.include({ code: 'invalid_request', field: 'reserve' });
      await limiter.close();
    }
  });
});
