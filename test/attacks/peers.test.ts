import { expect } from 'chai';
import type { PeerMessage } from '../../src/cluster/messages.js';
import { encodeMessage } from '../../src/wire/codec.js';
import { allow, call, newClient } from '../support/http.js';
import { cleanUp, createSender, post, sendRaw, sleep, startTap } from '../peer/support.js';
import { envelope, memberOf, membersOf, SECRET, startAttackedRing, startVictim } from './ring.js';
import type { AttackedRing } from './ring.js';

/** What each message would do, were it believed. */
const MESSAGES: [what: string, body: (clientId: string, victim: string) => PeerMessage][] = [
  ['forgets a client', (clientId) => ({ kind: 'forget', clientId })],
  ['names a victim as a member', (_, victim) => ({ kind: 'heartbeat', members: [memberOf(victim)] })],
  [
    'names a victim as one that refused',
    (_, victim) => ({ kind: 'decide', batchId: 'x', refused: [victim], checks: [] }),
  ],
  ['asks for all clients', () => ({ kind: 'handoff', chunk: 0, gone: [] })],
  ['looks at a client', (clientId) => ({ kind: 'describe', clientId })],
  [
    'returns leases',
    (clientId) => ({ kind: 'lease', wishes: [], returns: [{ clientId, id: 'x 1 1 y', unspent: 1e9 }] }),
  ],
  ['comes into the ring', (_, victim) => ({ kind: 'admit', record: memberOf(victim), ring: 'x', members: [] })],
];

describe('attacks on the peer port of a ring with a secret', function () {
  this.timeout(30_000);
  let ring: AttackedRing;
  let exhausted: string;
  before(async () => {
    ring = await startAttackedRing();
    exhausted = newClient();
    expect((await allow(ring.nodes[0]!, question())).allowed).to.equal(true);
  });
  after(() => ring.stop());
  afterEach(cleanUp);
  const question = (): object => ({ clientId: exhausted, limit: 1, window: '1d' });

  async function ownedBy(port: number): Promise<string> {
    for (;;) {
      const clientId = newClient();
      const { owner } = (await call(ring.nodes[0]!, `/v1/cluster/owner?clientId=${clientId}`)).json as {
        owner: string;
      };
      if (owner === `127.0.0.1:${port}`) return clientId;
    }
  }

  /** The ring is as it was: two members, and who was exhausted still is. */
  async function unharmed(): Promise<void> {
    for (const node of ring.nodes) {
      expect((await membersOf(node)).filter(({ state }) => state === 'active')).to.have.length(2);
      expect((await allow(node, question())).allowed).to.equal(false);
      expect((await call(node, '/readyz')).status).to.equal(200);
    }
  }

  it('by strangers: unsigned, or signed with a guess, no message does anything, nor is a victim written to', async () => {
    const victim = await startVictim();
    const guesser = createSender({ secret: 'password' });
    for (const [what, body] of MESSAGES) {
      const message = envelope(body(exhausted, victim.id));
      for (const port of ring.peerPorts) {
        const { status, code } = await sendRaw(port, post(String(encodeMessage(message))));
        expect({ status, code }, what).to.deep.equal({ status: 401, code: 'no_credentials' });
        expect((await guesser.transport.send(`127.0.0.1:${port}`, message, 2_000)).kind, what).to.equal('broken');
      }
    }
    await sleep(500);
    expect(victim.connections()).to.equal(0);
    victim.close();
    await unharmed();
  });

  it('by who records what a member says: played again, cut short, changed or out of turn it does nothing', async () => {
    const [port] = ring.peerPorts as [number];
    const tap = await startTap(port);
    const insider = createSender({ secret: SECRET });
    const victim = await ownedBy(port);
    const asks = { clientId: victim, limit: 1, window: '1d' };
    await allow(ring.nodes[0]!, asks);
    const from = memberOf('127.0.0.1:9', { state: 'left' });
    for (let i = 0; i < 3; i += 1) {
      expect(
        (await insider.transport.send(tap.id, envelope({ kind: 'forget', clientId: victim }, from), 2_000)).kind,
      ).to.equal('answer');
    }
    expect((await allow(ring.nodes[0]!, asks)).allowed).to.equal(true);
    const recorded = tap.requests.map((bytes) => bytes.toString('latin1')).reverse();
    expect(recorded.length).to.be.at.least(3);
    for (const text of recorded) {
      const [head, body] = text.split('\r\n\r\n') as [string, string];
      const shorter = body.slice(0, -1);
      const cut = `${head.replace(/content-length: \d+/i, `content-length: ${shorter.length}`)}\r\n\r\n${shorter}`;
      const other = text.replace(victim, victim.replace(/.$/, '!'));
      const counter = text.replace(/\.(\d+)\.([\w-]{43})\r/, (_, n, mac) => `.${Number(n) + 1_000}.${String(mac)}\r`);
      for (const forged of [text, cut, other, counter]) expect((await sendRaw(port, forged)).status).to.equal(401);
      // At the other node, for which it was not signed.
      expect((await sendRaw(ring.peerPorts[1]!, text)).status).to.equal(401);
    }
    expect((await allow(ring.nodes[0]!, asks)).allowed).to.equal(false);
    await unharmed();
  });

  it('by size: what is larger than a message may be, or claims to be, is refused before it is read', async () => {
    const [port] = ring.peerPorts as [number];
    const signed = `Authorization: Tokenring -.${'a'.repeat(22)}.1.${'b'.repeat(43)}\r\n`;
    const claim = `POST /peer/v2/message HTTP/1.1\r\nHost: x\r\n${signed}Content-Length: 99999999999\r\n\r\n`;
    expect(await sendRaw(port, claim)).to.include({ status: 413, code: 'too_large' });
    const chunk = `${(1 << 20).toString(16)}\r\n${'x'.repeat(1 << 20)}\r\n`;
    const chunked = `POST /peer/v2/message HTTP/1.1\r\nHost: x\r\n${signed}Transfer-Encoding: chunked\r\n\r\n`;
    expect(await sendRaw(port, chunked, ...Array.from({ length: 9 }, () => chunk))).to.include({ status: 413 });
    expect(await sendRaw(port, `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).to.include({ status: 431 });
    await unharmed();
  });

  it('by who knows the secret: a victim that is named is written to, slower and slower, is no member for long, and learns no secret', async () => {
    const [port] = ring.peerPorts as [number];
    const victim = await startVictim();
    const insider = createSender({ secret: SECRET });
    const from = memberOf('127.0.0.1:9', { state: 'left' });
    const named = envelope({ kind: 'heartbeat', members: [memberOf(victim.id, { state: 'joining' })] }, from);
    expect((await insider.transport.send(`127.0.0.1:${port}`, named, 2_000)).kind).to.equal('answer');
    await sleep(2_500);
    for (const node of ring.nodes) {
      const [state] = (await membersOf(node)).filter(({ id }) => id === victim.id).map((member) => member.state);
      expect(['suspect', 'dead']).to.include(state);
    }
    const messages = victim.bytes().split('POST /peer/v2/message').length - 1;
    // One beat is 100 ms, and one that has no answer makes room for the next after 300 ms.
    expect(messages).to.be.within(1, 2 * 10);
    expect(victim.bytes()).not.to.include(SECRET);
    victim.close();
  });

  it('by who knows the secret: a list of more members than a ring can have is not taken, or not in full', async () => {
    const [port] = ring.peerPorts as [number];
    const insider = createSender({ secret: SECRET });
    const from = memberOf('127.0.0.1:9', { state: 'left' });
    const list = (count: number): ReturnType<typeof memberOf>[] =>
      Array.from({ length: count }, (_, i) => memberOf(`10.255.${i >> 8}.${i & 255}:1`, { state: 'left' }));
    const send = (count: number): ReturnType<typeof insider.transport.send> =>
      insider.transport.send(`127.0.0.1:${port}`, envelope({ kind: 'heartbeat', members: list(count) }, from), 4_000);
    expect((await send(16_000)).kind).to.equal('broken');
    expect((await send(2_000)).kind).to.equal('answer');
    expect(await membersOf(ring.nodes[0]!)).to.have.length.at.most(1_025);
    for (const node of ring.nodes) expect((await allow(node, question())).allowed).to.equal(false);
  });
});
