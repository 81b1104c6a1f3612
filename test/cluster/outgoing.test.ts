import { expect } from 'chai';
import { Outgoing } from '../../src/replication/outgoing.js';

const client = (slot: number, generation = 1) => ({ slot, generation });

/** Sends at most `most` clients. @returns their slots, with a star where all that is known goes */
function send(outgoing: Outgoing, most = Infinity): string[] {
  const sent: string[] = [];
  outgoing.send((slot, _generation, whole) => sent.push(`${slot}${whole ? '*' : ''}`) < most);
  return sent;
}

describe('clients of which a node is to get copies', () => {
  it('go in the order in which they came, as many at once as a message holds', () => {
    const outgoing = new Outgoing();
    for (let slot = 0; slot < 5; slot += 1) outgoing.add(client(slot), slot === 1);
    expect(send(outgoing, 3)).to.deep.equal(['0', '1*', '2']);
    expect([outgoing.sending, outgoing.waiting]).to.deep.equal([3, 2]);
    outgoing.sent(true);
    expect(send(outgoing, 3)).to.deep.equal(['3', '4']);
    outgoing.sent(true);
    expect(outgoing.isEmpty).to.equal(true);
  });

  it('go again before the others when they were not acknowledged', () => {
    const outgoing = new Outgoing();
    for (let slot = 0; slot < 4; slot += 1) outgoing.add(client(slot), false);
    send(outgoing, 2);
    outgoing.add(client(4), false);
    outgoing.sent(false);
    expect(send(outgoing)).to.deep.equal(['0', '1', '2', '3', '4']);
  });

  it('are known from when they come until they are acknowledged', () => {
    const outgoing = new Outgoing();
    outgoing.add(client(7, 3), false);
    expect(outgoing.has(client(7, 3))).to.equal(true);
    expect(outgoing.has(client(7, 4))).to.equal(false);
    send(outgoing);
    outgoing.add(client(8), false);
    expect([outgoing.has(client(7, 3)), outgoing.has(client(8))]).to.deep.equal([true, true]);
    outgoing.sent(true);
    expect([outgoing.has(client(7, 3)), outgoing.has(client(8))]).to.deep.equal([false, true]);
  });

  it('are each named once, whole if they ever were to go whole', () => {
    const outgoing = new Outgoing();
    outgoing.add(client(1), true);
    outgoing.add(client(2, 1), true);
    send(outgoing);
    outgoing.add(client(1), false);
    // Another client has the slot now.
    outgoing.add(client(2, 2), false);
    expect(outgoing.unacknowledged()).to.deep.equal([
      { slot: 1, generation: 1, whole: true },
      { slot: 2, generation: 2, whole: false },
    ]);
  });

  it('take memory for about twice as many as there are, however often they change while nothing can be sent', () => {
    const outgoing = new Outgoing();
    const clients = 10_000;
    let most = 0;
    outgoing.add(client(0), true);
    send(outgoing);
    for (let i = 0; i < 50 * clients; i += 1) {
      outgoing.add(client(i % clients), i === 3);
      most = Math.max(most, outgoing.waiting);
    }
    expect(most).to.be.at.most(2 * clients);
    outgoing.sent(false);
    const sent = new Set(send(outgoing));
    expect(sent.has('3*')).to.equal(true);
    for (let slot = 4; slot < clients; slot += 1) if (!sent.has(`${slot}`)) expect.fail(`${slot} is missing`);
  });
});
