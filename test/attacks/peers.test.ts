import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import type { PeerMessage } from '../../src/protocol/messages.js';
import { allow, call, newClient } from '../support/http.js';
import { cleanUp, createSender, openRawLink, SENDER, sendRaw, sleep, startTap } from '../peer/support.js';
import { envelope, memberOf, membersOf, SECRET, startAttackedRing, startVictim, type AttackedRing } from './ring.js';
import { startStrangers } from './strangers.js';

/** What each message would do, were it believed. */
const MESSAGES: [what: string, body: (clientId: string, victim: string) => PeerMessage][] = [
  ['forgets a client', (clientId) => ({ kind: 'forget', clientId })],
  ['names a victim as a member', (_, victim) => ({ kind: 'heartbeat', members: [memberOf(victim)] })],
  [
    'names a victim as one that refused',
    (_, victim) => ({ kind: 'decide', messageId: 'x', refused: [victim], checks: [] }),
  ],
  ['asks for all clients', () => ({ kind: 'handoff', chunk: 0, gone: [] })],
  ['looks at a client', (clientId) => ({ kind: 'describe', clientId })],
  [
    'returns leases',
    (clientId) => ({ kind: 'lease', requests: [], returns: [{ clientId, id: 'x 1 1 y', unspent: 1e9 }] }),
  ],
  ['comes into the ring', (_, victim) => ({ kind: 'enter', record: memberOf(victim), ring: 'x', members: [] })],
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

  it('a stranger without the secret, or with a guess, gets no message in, and makes no node write to a victim', async () => {
    const victim = await startVictim();
    const [guesser, innocent] = [createSender({ secret: 'password' }), createSender()];
    for (const [what, body] of MESSAGES) {
      const message = envelope(body(exhausted, victim.id));
      for (const port of ring.peerPorts) {
        for (const { transport } of [guesser, innocent]) {
          expect((await transport.send(`127.0.0.1:${port}`, message, 2_000)).kind, what).to.equal('broken');
        }
      }
    }
    await sleep(500);
    expect(victim.connections()).to.equal(0);
    victim.close();
    await unharmed();
  });

  it('a recorded connection that is played again, cut short, or reordered does nothing', async () => {
    const [port] = ring.peerPorts as [number];
    const tap = await startTap(port);
    const insider = createSender({ secret: SECRET });
    const victim = await ownedBy(port);
    const asks = { clientId: victim, limit: 1, window: '1d' };
    await allow(ring.nodes[0]!, asks);
    const from = memberOf(SENDER.from.id, { state: 'left' });
    for (let i = 0; i < 3; i += 1) {
      expect(
        (await insider.transport.send(tap.id, envelope({ kind: 'forget', clientId: victim }, from), 2_000)).kind,
      ).to.equal('answer');
    }
    expect((await allow(ring.nodes[0]!, asks)).allowed).to.equal(true);
    expect(tap.requests.length).to.be.at.least(5);
    const [upgrade, proof, ...records] = tap.requests as [Buffer, Buffer, ...Buffer[]];
    const played = [
      tap.requests,
      [upgrade, ...records],
      [upgrade, proof.subarray(0, 31), ...records],
      [upgrade, proof, ...records.reverse()],
    ];
    for (const port_ of ring.peerPorts) {
      for (const bytes of played) expect((await sendRaw(port_, ...bytes)).status).to.equal(101);
    }
    // On a link that is proved, what belongs to another one is worth nothing either.
    const link = await openRawLink(port, SECRET);
    const ended = new Promise((resolve) => link.socket.on('close', resolve));
    link.socket.write(records[0]!);
    await ended;
    expect(link.answers.size).to.equal(0);
    expect((await allow(ring.nodes[0]!, asks)).allowed).to.equal(false);
    await unharmed();
  });

  it('a request that is larger than a handshake is not read', async () => {
    const [port] = ring.peerPorts as [number];
    const claim = 'POST /peer HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n';
    expect(await sendRaw(port, claim)).to.include({ status: 426, code: 'upgrade_required' });
    const chunk = `${(1 << 20).toString(16)}\r\n${'x'.repeat(1 << 20)}\r\n`;
    const chunked = 'POST /peer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n';
    // The answer may be lost with the connection.
    await sendRaw(port, chunked, ...Array.from({ length: 9 }, () => chunk)).catch(() => undefined);
    expect(await sendRaw(port, `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`)).to.include({ status: 431 });
    await unharmed();
  });

  it('strangers who hold connections to all ports, and send as much as they can, change nothing for members', async () => {
    const refusedBefore = await refusedOf(ring.nodes[0]!);
    const end = startStrangers(ring.peerPorts);
    const endMs = performance.now() + 4_000;
    while (performance.now() < endMs) {
      await unharmed();
      for (const node of ring.nodes) {
        const { source } = await allow(node, { clientId: newClient(), limit: 5, window: '1m' });
        expect(source).to.be.oneOf(['owner', 'forwarded']);
      }
      await sleep(20);
    }
    expect(await end()).to.be.at.least(48);
    expect(await refusedOf(ring.nodes[0]!)).to.be.above(refusedBefore);
    await unharmed();
  });

  it('a victim that a peer names as a member is asked once, becomes no member, and learns no secret', async () => {
    const [port] = ring.peerPorts as [number];
    const victim = await startVictim();
    const insider = createSender({ secret: SECRET });
    const from = memberOf(SENDER.from.id, { state: 'left' });
    const named = envelope({ kind: 'heartbeat', members: [memberOf(victim.id, { state: 'joining' })] }, from);
    expect((await insider.transport.send(`127.0.0.1:${port}`, named, 2_000)).kind).to.equal('answer');
    await sleep(2_500);
    for (const node of ring.nodes) expect((await membersOf(node)).map(({ id }) => id)).not.to.include(victim.id);
    expect(victim.bytes().split('GET /peer ')).to.have.length(2);
    expect(victim.bytes()).not.to.include(SECRET);
    victim.close();
  });

  it('a list of more members than a ring can have is refused, or taken in part', async () => {
    const [port] = ring.peerPorts as [number];
    const insider = createSender({ secret: SECRET });
    const from = memberOf(SENDER.from.id, { state: 'left' });
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

/** Requests and connections that the peer port of a node has refused. */
async function refusedOf(node: RunningNode): Promise<number> {
  const { text } = await call(node, '/metrics');
  return [...text.matchAll(/^tokenring_peer_refused_total\{.*\} (\d+)$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
}
