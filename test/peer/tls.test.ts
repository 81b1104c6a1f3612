import { connect } from 'node:net';
import { expect } from 'chai';
import { PeerServer } from '../../src/protocol/link/server.js';
import { PeerCounters } from '../../src/protocol/link/counters.js';
import type { PeerTls } from '../../src/protocol/link/tls.js';
import { createAuthority, type Authority } from './certificates.js';
import {
  answerTo,
  ask,
  cleanUp,
  createLog,
  createSender,
  gate,
  identityOf,
  sendRaw,
  sleep,
  startPeer,
  until,
} from './support.js';
import { need } from '../support/programs.js';

const HERE = 'IP:127.0.0.1,DNS:localhost';

describe(`peer TLS`, () => {
  let ours: Authority;
  let theirs: Authority;
  let node: PeerTls;

  before(function () {
    need(this, 'openssl');
    [ours, theirs] = [createAuthority('ours'), createAuthority('theirs')];
    node = { ...ours.issue(HERE), ca: ours.ca };
  });
  afterEach(cleanUp);

  async function sendTo(
    server: PeerTls,
    client: PeerTls,
    secret?: string,
  ): Promise<[result: string, received: number]> {
    const peer = await startPeer({ tls: server, secret });
    const { transport } = createSender({ tls: client, secret });
    const result = await transport.send(peer.id, ask(1), 5_000);
    if (result.kind === 'answer') expect(result.answer).to.deep.equal(answerTo(ask(1)));
    return [result.kind, peer.received.length];
  }

  it('carries messages, with a peer secret or without', async () => {
    expect(await sendTo(node, node)).to.deep.equal(['answer', 1]);
    expect(await sendTo(node, node, 'a shared secret')).to.deep.equal(['answer', 1]);
  });

  it('sends all messages over one link', async () => {
    const peer = await startPeer({ tls: node });
    const { transport } = createSender({ tls: node });
    for (let i = 0; i < 50; i += 1) expect((await transport.send(peer.id, ask(i), 5_000)).kind).to.equal('answer');
    expect(peer.connections()).to.be.at.most(2);
  });

  it('sends nothing to a peer whose certificate another authority signed', async () => {
    expect(await sendTo({ ...theirs.issue(HERE), ca: theirs.ca }, node)).to.deep.equal(['broken', 0]);
  });

  it('sends nothing to a peer whose certificate is for another host', async () => {
    expect(await sendTo({ ...ours.issue('DNS:elsewhere'), ca: ours.ca }, node)).to.deep.equal(['broken', 0]);
  });

  it('takes one name for all peers where the settings say so', async () => {
    const shared = { ...ours.issue('DNS:tokenring.internal'), ca: ours.ca };
    expect(await sendTo(shared, { ...shared, servername: 'tokenring.internal' })).to.deep.equal(['answer', 1]);
    expect(await sendTo(shared, { ...shared, servername: 'another.internal' })).to.deep.equal(['broken', 0]);
  });

  it('says refused where nobody listens, as without TLS', async () => {
    const peer = await startPeer({ tls: node });
    await peer.peer.close(0);
    expect(await createSender({ tls: node }).transport.send(peer.id, ask(1), 5_000)).to.deep.equal({ kind: 'refused' });
  });

  it('gives no answer to a sender without it, and sends nothing to a peer without it', async () => {
    const secured = await startPeer({ tls: node });
    expect((await createSender().transport.send(secured.id, ask(1), 5_000)).kind).to.equal('broken');
    await until(() => secured.counters.refused.tls === 1, 'the handshake to fail');
    const open = await startPeer();
    expect((await createSender({ tls: node }).transport.send(open.id, ask(1), 5_000)).kind).to.equal('broken');
    expect([secured.received, open.received]).to.deep.equal([[], []]);
  });

  it('answers what is in flight when it closes, and then does not wait', async () => {
    const { opened, open } = gate();
    const peer = await startPeer({ tls: node, receive: (message) => opened.then(() => answerTo(message)) });
    const { transport } = createSender({ tls: node });
    const inFlight = transport.send(peer.id, ask(1), 5_000);
    await until(() => peer.received.length === 1, 'the message to arrive');
    const startMs = performance.now();
    const closing = peer.peer.close(5_000);
    await sleep(20);
    open();
    expect((await inFlight).kind).to.equal('answer');
    await closing;
    expect(performance.now() - startMs).to.be.below(2_500);
  });

  it('closes while a stranger has not finished its handshake', async () => {
    const peer = await startPeer({ tls: node });
    const stranger = connect(peer.port, '127.0.0.1').on('error', () => undefined);
    await until(() => peer.open() === 1, 'the connection to be there');
    const startMs = performance.now();
    await peer.peer.close(200);
    expect(performance.now() - startMs).to.be.below(2_500);
    stranger.destroy();
  });

  describe('with client certificates required', () => {
    const mutual = (): PeerTls => ({ ...node, requireClientCert: true });

    it('takes messages from a peer with a certificate of this authority', async () => {
      expect(await sendTo(mutual(), mutual())).to.deep.equal(['answer', 1]);
    });

    it('takes nothing from a peer with a certificate of another authority', async () => {
      expect(await sendTo(mutual(), { ...theirs.issue(HERE), ca: ours.ca })).to.deep.equal(['broken', 0]);
    });

    it('takes nothing from a peer without a certificate, and counts it', async () => {
      const peer = await startPeer({ tls: mutual() });
      const { transport } = createSender({ tls: { cert: '', key: '', ca: ours.ca } });
      expect((await transport.send(peer.id, ask(1), 5_000)).kind).to.equal('broken');
      await until(() => peer.counters.refused.tls === 1, 'the handshake to fail');
      expect(peer.received).to.deep.equal([]);
      expect((await sendRaw(peer.port, 'GET / HTTP/1.1\r\n\r\n')).status).to.not.equal(200);
    });

    it('gives strangers a budget of their own, before their handshake and after it', async () => {
      const peer = await startPeer({ tls: mutual(), maxStrangers: 3 });
      const { transport } = createSender({ tls: mutual() });
      expect((await transport.send(peer.id, ask(1), 5_000)).kind).to.equal('answer');
      const strangers = Array.from({ length: 6 }, (_, i) => {
        const socket = connect(peer.port, '127.0.0.1').on('error', () => undefined);
        // The head of a TLS record that never comes to an end.
        if (i % 2 === 0) socket.write(Buffer.from([22, 3, 1, 64, 0, 1]));
        return socket;
      });
      await until(() => peer.counters.refused.too_many_connections >= 3, 'the oldest to be dropped');
      expect((await transport.send(peer.id, ask(2), 5_000)).kind).to.equal('answer');
      expect((await createSender({ tls: mutual() }).transport.send(peer.id, ask(3), 5_000)).kind).to.equal('answer');
      expect(peer.received).to.have.length(3);
      for (const stranger of strangers) stranger.destroy();
    });

    it('begins TLS with peers from a known address before strangers from another one', async () => {
      const peer = await startPeer({ tls: mutual() });
      expect((await createSender({ tls: mutual() }).transport.send(peer.id, ask(1), 5_000)).kind).to.equal('answer');
      const strangers = Array.from({ length: 150 }, () => {
        const socket = connect({ port: peer.port, host: '127.0.0.1', localAddress: '127.0.0.2' });
        socket.on('error', () => undefined).write('no TLS');
        return socket;
      });
      await until(() => peer.connections() === 151, 'the strangers to come');
      expect((await createSender({ tls: mutual() }).transport.send(peer.id, ask(2), 5_000)).kind).to.equal('answer');
      expect(peer.counters.refused.tls, 'strangers whose handshake has begun').to.be.below(150);
      for (const stranger of strangers) stranger.destroy();
    });

    it('does not start without an authority that signs them', () => {
      const tls = { ...mutual(), ca: undefined };
      const receive = (): Promise<never> => Promise.reject(new Error());
      const deps = { receive, counters: new PeerCounters(), identity: identityOf({}), log: createLog() };
      expect(() => new PeerServer(deps, { tls })).to.throw(/CA/);
    });
  });
});
