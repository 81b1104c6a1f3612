import { expect } from 'chai';
import fc from 'fast-check';
import { createPeerAuth } from '../../src/peer/auth.js';
import type { Credentials, Signer, Verifier } from '../../src/peer/auth.js';
import { WINDOW } from '../../src/peer/replay-window.js';

const BODY = Buffer.from('["f"]');
const auth = createPeerAuth('a secret');

interface Sent {
  readonly credentials: Credentials;
  readonly body: Buffer;
}

function sign(signer: Signer, verifier: Verifier, body = BODY): Sent {
  return { credentials: verifier.read(signer.sign(body).authorization)!, body };
}

/** A sender that knows the receiver's boot id. */
function signerFor(verifier: Verifier, of = auth): Signer {
  const signer = of.createSigner();
  signer.learn(verifier.boot);
  return signer;
}

function accept(verifier: Verifier, { credentials, body }: Sent): string {
  return verifier.accept(credentials, body) ?? 'accepted';
}

describe('peer authentication', () => {
  it('accepts a message once', () => {
    const verifier = auth.createVerifier();
    const sent = sign(signerFor(verifier), verifier);
    expect([accept(verifier, sent), accept(verifier, sent), accept(verifier, sent)]).to.deep.equal([
      'accepted',
      'replayed',
      'replayed',
    ]);
  });

  it('accepts a message at the node that it was signed for only, and not after that has started again', () => {
    const [here, there, again] = [auth.createVerifier(), auth.createVerifier(), auth.createVerifier()];
    const sent = sign(signerFor(here), here);
    expect([accept(there, sent), accept(again, sent), accept(here, sent)]).to.deep.equal([
      'unknown_boot',
      'unknown_boot',
      'accepted',
    ]);
  });

  it('accepts nothing that was signed with another secret, or by who knows no boot id yet', () => {
    const verifier = auth.createVerifier();
    expect(accept(verifier, sign(signerFor(verifier, createPeerAuth('another')), verifier))).to.equal('wrong_secret');
    expect(accept(verifier, sign(auth.createSigner(), verifier))).to.equal('unknown_boot');
    expect(verifier.sessions).to.equal(0);
  });

  it('accepts nothing of which a single part was changed', () => {
    const [verifier, other] = [auth.createVerifier(), auth.createVerifier()];
    const signer = signerFor(verifier);
    const { credentials } = sign(signer, verifier);
    const changes: Partial<Credentials>[] = [
      { session: other.boot },
      { counter: credentials.counter + 1 },
      { mac: sign(signer, verifier, Buffer.from('["g"]')).credentials.mac },
      { boot: other.boot },
    ];
    for (const change of changes) {
      expect(accept(verifier, { credentials: { ...credentials, ...change }, body: BODY })).to.equal('wrong_secret');
    }
    for (let i = 0; i < BODY.length * 8; i += 1) {
      const body = Buffer.from(BODY);
      body[i >> 3]! ^= 1 << (i & 7);
      expect(accept(verifier, { credentials, body })).to.equal('wrong_secret');
    }
    expect(accept(verifier, { credentials, body: BODY })).to.equal('accepted');
  });

  it('accepts messages in whatever order several connections deliver them', () => {
    fc.assert(
      fc.property(
        fc.shuffledSubarray(
          Array.from({ length: WINDOW }, (_, i) => i),
          { minLength: WINDOW },
        ),
        (order) => {
          const verifier = auth.createVerifier();
          const signer = signerFor(verifier);
          const all = order.map(() => sign(signer, verifier));
          for (const i of order) expect(accept(verifier, all[i]!)).to.equal('accepted');
        },
      ),
      { numRuns: 5 },
    );
  });

  it('accepts nothing that so many later messages have overtaken that it cannot tell whether it is new', () => {
    const verifier = auth.createVerifier();
    const signer = signerFor(verifier);
    const early = [sign(signer, verifier), sign(signer, verifier)];
    for (let i = 0; i < WINDOW - 1; i += 1) accept(verifier, sign(signer, verifier));
    expect(early.map((sent) => accept(verifier, sent))).to.deep.equal(['too_old', 'accepted']);
  });

  it('never accepts a message twice, whatever sessions come and go, as the table has room for few', () => {
    let evictions = 0;
    const steps = fc.array(
      fc.oneof(
        fc.record({ do: fc.constant('send' as const), sender: fc.nat(6) }),
        fc.record({ do: fc.constant('replay' as const), at: fc.nat() }),
        fc.record({ do: fc.constant('hold back' as const), sender: fc.nat(6) }),
      ),
      { minLength: 20, maxLength: 120 },
    );
    fc.assert(
      fc.property(steps, (all) => {
        const verifier = auth.createVerifier({ maxSessions: 3 });
        const senders = Array.from({ length: 7 }, () => auth.createSigner());
        const captured: Sent[] = [];
        const accepted = new Set<Sent>();
        const deliver = (sent: Sent): string => {
          const result = accept(verifier, sent);
          if (result === 'accepted') {
            expect(accepted.has(sent), 'accepted before').to.equal(false);
            accepted.add(sent);
          }
          return result;
        };
        let boot = verifier.boot;
        for (const step of all) {
          if (step.do === 'replay') {
            if (captured.length > 0) deliver(captured[step.at % captured.length]!);
            continue;
          }
          const signer = senders[step.sender]!;
          captured.push(sign(signer, verifier));
          if (step.do === 'hold back') continue;
          if (deliver(captured.at(-1)!) === 'accepted') continue;
          // As the transport does: one repeat under the boot id that the refusal names is enough.
          signer.learn(verifier.boot);
          captured.push(sign(signer, verifier));
          expect(deliver(captured.at(-1)!)).to.equal('accepted');
          expect(verifier.sessions).to.be.at.most(3);
          if (verifier.boot !== boot) evictions += 1;
          boot = verifier.boot;
        }
        for (const sent of captured) deliver(sent);
        for (const sent of captured) expect(deliver(sent)).to.not.equal('accepted');
      }),
      { numRuns: 300 },
    );
    expect(evictions).to.be.above(300);
  });

  it('goes on with the sessions that it keeps when another makes room', () => {
    const verifier = auth.createVerifier({ maxSessions: 2 });
    const [first, second] = [signerFor(verifier), signerFor(verifier)];
    expect([first, second, first].map((signer) => accept(verifier, sign(signer, verifier)))).to.not.include(
      'unknown_boot',
    );
    expect(accept(verifier, sign(signerFor(verifier), verifier))).to.equal('accepted');
    expect(accept(verifier, sign(first, verifier))).to.equal('accepted');
    expect(accept(verifier, sign(second, verifier))).to.equal('unknown_boot');
  });

  it('lets no stranger push a session out, nor keep one in', () => {
    const verifier = auth.createVerifier({ maxSessions: 2 });
    const [first, second] = [signerFor(verifier), signerFor(verifier)];
    const stranger = createPeerAuth('another');
    const { boot } = verifier;
    const ofFirst = sign(first, verifier);
    accept(verifier, ofFirst);
    accept(verifier, sign(second, verifier));
    for (let i = 0; i < 10; i += 1) accept(verifier, sign(signerFor(verifier, stranger), verifier));
    expect([verifier.sessions, verifier.boot]).to.deep.equal([2, boot]);
    accept(verifier, { ...ofFirst, credentials: { ...ofFirst.credentials, counter: 9 } });
    accept(verifier, sign(signerFor(verifier), verifier));
    expect(accept(verifier, sign(second, verifier)), 'the one used last stays').to.equal('accepted');
  });

  it('takes an answer for the message that it answers only, in every part', () => {
    const verifier = auth.createVerifier();
    const signer = signerFor(verifier);
    const [one, two] = [signer.sign(BODY), signer.sign(BODY)];
    const mac = verifier.signAnswer(verifier.read(one.authorization)!, 200, '["k"]');
    expect(one.verifies(200, Buffer.from('["k"]'), mac)).to.equal(true);
    expect(two.verifies(200, Buffer.from('["k"]'), mac)).to.equal(false);
    expect(one.verifies(401, Buffer.from('["k"]'), mac)).to.equal(false);
    expect(one.verifies(200, Buffer.from('["f"]'), mac)).to.equal(false);
    expect(auth.createSigner().sign(BODY).verifies(200, Buffer.from('["k"]'), mac)).to.equal(false);
    for (const bad of [undefined, '', mac.slice(1), `${mac}x`, 'é'.repeat(43), 'A'.repeat(43)]) {
      expect(one.verifies(200, Buffer.from('["k"]'), bad)).to.equal(false);
    }
  });

  it('never takes a message for an answer to itself', () => {
    const verifier = auth.createVerifier();
    const signed = signerFor(verifier).sign(BODY);
    expect(signed.verifies(200, BODY, verifier.read(signed.authorization)!.mac)).to.equal(false);
  });

  it('reads credentials of the right form only', () => {
    const verifier = auth.createVerifier();
    const good = signerFor(verifier).sign(BODY).authorization;
    expect(verifier.read(good)).to.be.an('object');
    const bad = [
      undefined,
      '',
      'Bearer x',
      `${good} `,
      ` ${good}`,
      good.replace('.1.', '.0.'),
      good.replace('.1.', '.-1.'),
    ];
    bad.push(
      good.replace('.1.', '.1e3.'),
      good.replace('.1.', '.1234567890123456.'),
      good.slice(0, -1),
      good.toLowerCase(),
    );
    bad.push(good.replace('.', ''), `${good}\n`);
    for (const one of bad) expect(verifier.read(one), one).to.equal(undefined);
  });

  it('learns no boot id that is none', () => {
    const verifier = auth.createVerifier();
    const signer = signerFor(verifier);
    for (const bad of ['', 'x', `${verifier.boot}x`, `${verifier.boot}\r\n`, '-']) signer.learn(bad);
    expect(accept(verifier, sign(signer, verifier))).to.equal('accepted');
  });
});
