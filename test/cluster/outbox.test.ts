import { expect } from 'chai';
import { decodeClients } from '../../src/state/client-format.js';
import { decideAlone } from '../../src/limits/decide/check-batch.js';
import { ruleOf, type Rule } from '../../src/limits/bucket/rule.js';
import { encodeMessage } from '../support/wire.js';
import { createWorld, type World } from '../sim/world.js';
import { checkOf } from './traffic.js';

/** What a peer takes: src/protocol/link/server.ts. */
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
const IDS_EACH = 100;
/** Eight limits a decision, so that what is remembered of it is long. */
const RULES: readonly Rule[] = Array.from({ length: 8 }, (_, i) =>
  ruleOf('token-bucket', 1_000, 3_600_000 + i, 1_000, undefined),
);

/** A world in which a message that no peer would take is lost, how many were, and the bytes of all. */
function createTightWorld(): { world: World; lost: () => number; all: () => number } {
  let lost = 0;
  let all = 0;
  const world = createWorld(1, {
    tamper: {
      message(_from, _to, message) {
        if (message.body.kind !== 'replicate') return message;
        const bytes = Buffer.byteLength(encodeMessage(message));
        all += bytes;
        if (bytes <= MAX_MESSAGE_BYTES) return message;
        lost += 1;
        return undefined;
      },
    },
  });
  return { world, lost: () => lost, all: () => all };
}

describe('copies on their way', () => {
  it('go in as many messages as it takes, however much is known of each client', async () => {
    const { world, lost, all } = createTightWorld();
    const ids = ['a:1', 'b:1'];
    for (const id of ids)
      await world.until(world.spawn(id, { seeds: ids, maxClients: 100_000 }).cluster.start(), 10_000);
    await world.run(500);
    const clients = Array.from({ length: 800 }, (_, i) => `client ${i}`);
    const owned = clients.filter((id) => world.node('a:1').cluster.membership.ring().owner(id) === 'a:1');
    const { checkRouter } = world.node('a:1').cluster;
    for (const id of owned)
      for (let i = 0; i < IDS_EACH; i += 1)
        await decideAlone(checkRouter, checkOf(id, RULES, { requestId: `${i}`.padEnd(128, '\n') }));
    await world.run(1_000);
    expect(lost()).to.equal(0);
    expect(all()).to.be.above(MAX_MESSAGE_BYTES);
    world.kill('a:1', true);
    await world.run(3_000);
    for (const id of owned) {
      const { remaining } = await world.until(
        Promise.resolve(decideAlone(world.node('b:1').cluster.checkRouter, checkOf(id, RULES, { peek: true }))),
        1_000,
      );
      // One comes back in 3.6 s.
      expect(remaining, id).to.be.within(1_000 - IDS_EACH, 1_001 - IDS_EACH);
    }
  });

  it('go with an admission part by part where there are many, and none is missing when the newcomer decides', async () => {
    const handed: { clients: number; more: boolean }[] = [];
    let changed = false;
    let lost = 0;
    const clients = Array.from({ length: 6_000 }, (_, i) => `client ${i}`);
    const rule = ruleOf('token-bucket', 10, 86_400_000, 10, undefined);
    const world = createWorld(1, {
      tamper: {
        // Copies of changes stay away for a while, so that the admission has to carry them.
        message: (_from, to, message) =>
          message.body.kind === 'replicate' && to === 'c:1' && (lost += 1) <= 2 ? undefined : message,
        answer(_from, to, answer, { body: asked }) {
          if (to === 'c:1' && asked.kind === 'handoff' && !changed) {
            changed = true;
            const { checks } = world.node('a:1').cluster;
            for (const id of clients) void decideAlone(checks, checkOf(id, [rule], { cost: 4 }));
          }
          if (asked.kind === 'enter' && answer.body.kind === 'handed')
            handed.push({ clients: decodeClients(answer.body.clients).length, more: answer.body.more });
          return answer;
        },
      },
    });
    const ids = ['a:1', 'b:1', 'c:1'];
    for (const id of ids)
      await world.until(world.spawn(id, { seeds: ids, maxClients: 100_000 }).cluster.start(), 60_000);
    expect(Math.max(...handed.map((one) => one.clients))).to.equal(1_000);
    expect(handed.filter(({ more }) => more)).to.have.length.above(1);
    const { checkRouter, membership } = world.node('c:1').cluster;
    const owned = clients.filter((id) => membership.ring().owner(id) === 'c:1');
    expect(owned).to.have.length.above(1_500);
    for (const id of owned) {
      const { remaining } = await world.until(
        Promise.resolve(decideAlone(checkRouter, checkOf(id, [rule], { peek: true }))),
        1_000,
      );
      expect(remaining, id).to.equal(6);
    }
  }).timeout(20_000);
});
