import { expect } from 'chai';
import { SERVER_CORE } from '../bench/machine.js';
import { bundledDist } from '../support/dist.js';
import { startAskedRing, type AskedRing } from './asked-ring.js';
import { attacksOn, startAttack } from './attackers.js';

describe('a node that many connections ask for anything but decisions', function () {
  this.timeout(60_000);
  let ring: AskedRing;
  before(async () => {
    ring = await startAskedRing(SERVER_CORE, bundledDist());
  });
  after(() => ring.stop());

  for (const name of Object.keys(attacksOn({ port: 0, respPort: 0, grpcPort: 0 }))) {
    it(`answers the decisions and stays in the ring: ${name}`, async () => {
      await ring.settled();
      const end = startAttack(attacksOn(ring)[name]!);
      const { asked, answered, rings } = await ring.ask(50, 3_000);
      expect(await end(), 'answers to the attackers').to.be.above(0);
      expect(rings, 'rings').to.equal(1);
      expect(answered / asked, `${answered} of ${asked} decisions`).to.be.at.least(0.99);
    });
  }
});
