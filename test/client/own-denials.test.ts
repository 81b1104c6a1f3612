import { expect } from 'chai';
import { OwnDenials } from '../../src/client/own-denials.js';
import type { DenialReport } from '../../src/limits/top-clients.js';
import { createFakeTime } from '../support/fake-time.js';

const DAY = { limit: 1, window: '1d' } as const;

describe('the denials that a client answers from memory', () => {
  function createWorld() {
    const time = createFakeTime();
    const sent: DenialReport[] = [];
    const own = new OwnDenials(time, (_clientId, report) => Promise.resolve(void sent.push(report)));
    return { time, sent, own };
  }

  it('are reported once a second, by client and policy, and not while there are none', async () => {
    const { time, sent, own } = createWorld();
    for (let i = 0; i < 3; i += 1) own.count({ clientId: 'a', ...DAY });
    own.count({ clientId: 'a', policy: 'p' });
    own.count({ clientId: 'a' });
    own.count({ clientId: 'b', ...DAY, peek: true });
    await time.pass(999);
    expect(sent).to.deep.equal([]);
    await time.pass(60_000);
    const clients = [
      { clientId: 'a', denied: 3 },
      { clientId: 'a', policy: 'p', denied: 1 },
      { clientId: 'a', policy: true, denied: 1 },
    ];
    expect(sent).to.deep.equal([{ denied: 6, clients }]);
    expect(time.timers()).to.equal(0);
  });

  it('of more clients than a report holds are all counted, and no client gets those of another', async () => {
    const { sent, own } = createWorld();
    for (let i = 0; i < 10_000; i += 1) own.count({ clientId: `c ${i}`, ...DAY });
    for (let i = 0; i < 1_000; i += 1) own.count({ clientId: 'often', ...DAY });
    await own.report();
    const { denied, clients } = sent[0]!;
    expect(denied).to.equal(11_000);
    expect(clients.length).to.be.at.most(64);
    expect(clients[0]).to.deep.equal({ clientId: 'often', denied: 1_000 });
    expect(clients.slice(1).every((one) => one.denied === 1)).to.equal(true);
  });

  it('never are more in a report than a node takes', async () => {
    const { sent, own } = createWorld();
    for (let i = 0; i < 1_000_001; i += 1) own.count({ clientId: 'a', ...DAY });
    await own.report();
    expect(sent.map(({ denied }) => denied)).to.deep.equal([1_000_000, 1]);
  });
});
