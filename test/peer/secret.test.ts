import { expect } from 'chai';
import { connect } from 'node:net';
import type { PeerResult } from '../../src/protocol/messages.js';
import { idsOf, peerKeysOf, type PeerKey } from '../../src/protocol/link/handshake.js';
import {
  answerTo,
  ask,
  cleanUp,
  createSender,
  offerHeaders,
  sendRaw,
  sleep,
  startPeer,
  startTap,
  until,
  upgradeRequest,
} from './support.js';

const secret = 'a shared secret';

function reasonOf(result: PeerResult): string {
  return result.kind === 'broken' ? result.reason : result.kind;
}

describe('peer secret', () => {
  afterEach(cleanUp);

  describe('shared by both', () => {
    it('is proved once for all messages of a link', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port);
      const { transport } = createSender({ secret });
      for (let i = 0; i < 5; i += 1) {
        expect(await transport.send(tap.id, ask(i), 5_000)).to.deep.equal({ kind: 'answer', answer: answerTo(ask(i)) });
      }
      expect(peer.connections()).to.equal(1);
      // The upgrade, the proof, five messages.
      expect(tap.requests).to.have.length(7);
    });

    it('lets many first messages through at once, each once', async () => {
      const peer = await startPeer({
        secret,
        receive: (message) => sleep(Math.random() * 5).then(() => answerTo(message)),
      });
      const { transport } = createSender({ secret });
      const results = await Promise.all(Array.from({ length: 500 }, (_, i) => transport.send(peer.id, ask(i), 10_000)));
      expect(results.every(({ kind }) => kind === 'answer')).to.equal(true);
      expect(new Set(peer.received.map((message) => JSON.stringify(message))).size).to.equal(500);
      expect(peer.received).to.have.length(500);
    });

    it('shows in no failure when the peer starts again', async () => {
      const first = await startPeer({ secret });
      const { transport } = createSender({ secret });
      await transport.send(first.id, ask(1), 5_000);
      await first.peer.close(0);
      const second = await startPeer({ secret, port: first.port });
      await until(() => first.open() === 0, 'the old link to end');
      await sleep(20);
      expect((await transport.send(first.id, ask(2), 5_000)).kind).to.equal('answer');
      expect(second.received).to.deep.equal([ask(2)]);
    });

    it('lets two transports of one process, and two names of one peer, talk side by side', async () => {
      const peer = await startPeer({ secret });
      const [one, two] = [createSender({ secret }), createSender({ secret })];
      for (let i = 0; i < 3; i += 1) {
        for (const { transport } of [one, two]) {
          for (const to of [peer.id, `localhost:${peer.port}`]) {
            expect((await transport.send(to, ask(i), 5_000)).kind).to.equal('answer');
          }
        }
      }
    });
  });

  describe('not shared', () => {
    it('keeps a sender with another one out, and tells both', async () => {
      const peer = await startPeer({ secret });
      const { transport, log } = createSender({ secret: 'another' });
      expect(reasonOf(await transport.send(peer.id, ask(1), 5_000))).to.match(/another peer secret/);
      expect(peer.received).to.deep.equal([]);
      expect(peer.counters.refused.wrong_secret).to.equal(1);
      expect(peer.log.lines[0]!.fields).to.include({ reason: 'wrong_secret', from: '127.0.0.1' });
      expect(log.lines[0]!.fields).to.include({ peer: peer.id });
    });

    it('keeps a sender without one out', async () => {
      const peer = await startPeer({ secret });
      expect(reasonOf(await createSender().transport.send(peer.id, ask(1), 5_000))).to.equal('HTTP 401 no_credentials');
      expect(peer.received).to.deep.equal([]);
    });

    it('keeps a sender with one out of a peer without, which could prove nothing to it', async () => {
      const peer = await startPeer();
      const { transport } = createSender({ secret });
      expect(reasonOf(await transport.send(peer.id, ask(1), 5_000))).to.equal('HTTP 401 unexpected_credentials');
      expect(peer.received).to.deep.equal([]);
    });

    it('exposes who poses as a peer, and sends it no message', async () => {
      const peer = await startPeer({ secret });
      // It passes the handshake on, and answers the client with a proof of its own.
      const tap = await startTap(peer.port, {
        answer: (bytes) => (bytes.length === 32 ? Buffer.alloc(32, 1) : bytes),
      });
      const { transport } = createSender({ secret });
      expect(reasonOf(await transport.send(tap.id, ask(1), 5_000))).to.match(/another peer secret/);
      expect(tap.requests).to.have.length(2);
    });

    it('gives a stranger nothing at which to try guesses: no proof, and no id of a secret', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port);
      await createSender({ secret: 'a guess' }).transport.send(tap.id, ask(1), 5_000);
      // One who knows the id, but not the secret.
      const [{ id }] = peerKeysOf(secret, 'default') as [PeerKey];
      const socket = connect(Number(tap.id.split(':')[1]), '127.0.0.1');
      socket.write(upgradeRequest({ ...offerHeaders({ secret: 'a guess' }), 'tokenring-keys': id }));
      await until(() => tap.answers.length === 2, 'both answers');
      socket.write(Buffer.alloc(32, 1));
      await until(() => peer.counters.refused.wrong_secret === 2, 'the refusal');
      socket.destroy();
      expect(tap.answers).to.have.length(2);
      expect(String(tap.answers[0]))
        .to.match(/^HTTP\/1.1 401 wrong_secret/)
        .and.not.to.include(id);
      expect(String(tap.answers[1])).to.match(/^HTTP\/1.1 101 /);
    });

    it('is logged with the ids of both sides, and never as such', async () => {
      const peer = await startPeer({ secret: 'first,second' });
      const { transport, log } = createSender({ secret: 'third,fourth' });
      await transport.send(peer.id, ask(1), 5_000);
      const [theirs, ours] = ['third,fourth', 'first,second'].map((list) => idsOf(peerKeysOf(list, 'default')));
      expect(peer.log.lines[0]!.fields['detail']).to.equal(
        `127.0.0.1:9080 offers the peer secrets with the ids ${theirs}; this node has ${ours}`,
      );
      expect(JSON.stringify(log.lines)).to.include(theirs);
      for (const { lines } of [peer.log, log]) expect(JSON.stringify(lines)).not.to.match(/first|second|third|fourth/);
    });
  });

  describe('of several', () => {
    const lists = ['old', 'old,new', 'new,old', 'new'];
    for (const [i, one] of lists.entries()) {
      for (const other of lists.slice(Math.max(0, i - 1), i + 2)) {
        it(`connects "${one}" with "${other}": the steps of a change that run side by side`, async () => {
          const peer = await startPeer({ secret: other });
          const tap = await startTap(peer.port);
          const { transport } = createSender({ secret: one });
          expect((await transport.send(tap.id, ask(1), 5_000)).kind).to.equal('answer');
          // The first of the one who dials that the other knows.
          const used = one.split(',').find((secret) => other.split(',').includes(secret))!;
          expect(String(tap.answers[0])).to.include(`tokenring-key: ${peerKeysOf(used, 'default')[0]!.id}\r\n`);
        });
      }
    }

    it('keeps "new" and "old" apart', async () => {
      const peer = await startPeer({ secret: 'new' });
      const result = await createSender({ secret: 'old' }).transport.send(peer.id, ask(1), 5_000);
      expect(reasonOf(result)).to.match(/another peer secret/);
    });

    it('lets nobody on the way choose an older one', async () => {
      const peer = await startPeer({ secret: 'old,new' });
      const [old, latest] = peerKeysOf('old,new', 'default').map(({ id }) => id) as [string, string];
      const tap = await startTap(peer.port, {
        request: (bytes) => Buffer.from(bytes.toString('latin1').replace(`${latest},${old}`, old), 'latin1'),
      });
      const { transport } = createSender({ secret: 'new,old' });
      expect(reasonOf(await transport.send(tap.id, ask(1), 5_000))).to.match(/another peer secret/);
      expect([peer.received, peer.counters.refused.wrong_secret]).to.deep.equal([[], 1]);
    });

    it('names each by an id that differs between clusters', () => {
      const [blue, green] = ['blue', 'green'].map((cluster) => peerKeysOf('a,b', cluster).map(({ id }) => id));
      expect(new Set([...blue!, ...green!]).size).to.equal(4);
      expect(blue).to.deep.equal(peerKeysOf('a,b', 'blue').map(({ id }) => id));
      for (const id of blue!) expect(id).to.match(/^[0-9a-f]{8}$/);
    });
  });

  describe('makes a connection that somebody recorded', () => {
    it('worth nothing at the same peer, at another, and after a restart', async () => {
      const [peer, other] = [await startPeer({ secret }), await startPeer({ secret })];
      const tap = await startTap(peer.port);
      await createSender({ secret }).transport.send(tap.id, ask(1), 5_000);
      expect(peer.received).to.have.length(1);
      await peer.peer.close(0);
      const again = await startPeer({ secret, port: peer.port });
      for (const port of [again.port, other.port]) {
        expect((await sendRaw(port, Buffer.concat(tap.requests))).status).to.equal(101);
      }
      expect([again.received, other.received]).to.deep.equal([[], []]);
      expect([again.counters.refused.wrong_secret, other.counters.refused.wrong_secret]).to.deep.equal([1, 1]);
    });
  });

  describe('shows what was changed on the way:', () => {
    // The upgrade and the proof come first, then one record each.
    const changes: [what: string, change: (bytes: Buffer) => Buffer][] = [
      ['any bit', (bytes) => flipped(bytes, 8 * 30)],
      ['the tag', (bytes) => flipped(bytes, 8 * bytes.length - 1)],
      ['a record repeated', (bytes) => Buffer.concat([bytes, bytes])],
      ['a record put before', (bytes) => Buffer.concat([Buffer.alloc(50, 1), bytes])],
    ];
    for (const [what, change] of changes) {
      it(`${what}, in a message`, async () => {
        const peer = await startPeer({ secret });
        let seen = 0;
        const tap = await startTap(peer.port, { request: (bytes) => ((seen += 1) > 2 ? change(bytes) : bytes) });
        const { transport } = createSender({ secret });
        const result = await transport.send(tap.id, ask(77), 5_000);
        expect(peer.received.length).to.equal(what === 'a record repeated' ? 1 : 0);
        if (what !== 'a record repeated') expect(result.kind).to.equal('broken');
        await until(() => peer.counters.refused.bad_tag + peer.counters.refused.bad_record === 1, 'the refusal');
      });

      it(`${what}, in an answer`, async () => {
        const peer = await startPeer({ secret });
        let seen = 0;
        const tap = await startTap(peer.port, { answer: (bytes) => ((seen += 1) > 2 ? change(bytes) : bytes) });
        const { transport } = createSender({ secret });
        const result = await transport.send(tap.id, ask(77), 5_000);
        if (what !== 'a record repeated') expect(reasonOf(result)).to.match(/no answer of a peer/);
        seen = 0;
        expect((await transport.send(peer.id, ask(1), 5_000)).kind).to.equal('answer');
      });
    }
  });

  describe('and the name of the cluster', () => {
    it('keep nodes of two clusters apart; each logs it once, with both names', async () => {
      const peer = await startPeer({ secret, cluster: 'blue' });
      const { transport, log } = createSender({ secret, cluster: 'green' });
      for (let i = 0; i < 5; i += 1) {
        expect(reasonOf(await transport.send(peer.id, ask(i), 5_000))).to.match(/"blue".*"green".*TOKENRING_CLUSTER/);
      }
      expect(peer.received).to.deep.equal([]);
      expect(peer.counters.refused.other_cluster).to.equal(5);
      expect(log.lines).to.have.length(1);
      expect(peer.log.lines).to.have.length(1);
      expect(peer.log.lines[0]!.fields).to.include({ peer: '127.0.0.1:9080', cluster: 'blue', theirs: 'green' });
    });
  });
});

function flipped(bytes: Buffer, bit: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[bit >> 3]! ^= 1 << (bit & 7);
  return changed;
}
