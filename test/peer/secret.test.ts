import { expect } from 'chai';
import type { PeerResult } from '../../src/cluster/ports.js';
import { createPeerAuth } from '../../src/peer/auth.js';
import { encodeAnswer } from '../../src/wire/codec.js';
import { refusalBody } from '../../src/peer/refusal.js';
import {
  answerTo,
  ask,
  cleanUp,
  createSender,
  http,
  sendRaw,
  sleep,
  startAnswering,
  startPeer,
  startRaw,
  startTap,
} from './support.js';

const secret = 'a shared secret';

function reasonOf(result: PeerResult): string {
  return result.kind === 'broken' ? result.reason : result.kind;
}

/** The number in a message and in its answer. */
function flip(from: string, to: string): (bytes: Buffer) => Buffer {
  return (bytes) => Buffer.from(bytes.toString('latin1').replace(from, to), 'latin1');
}

describe('peer secret', () => {
  afterEach(cleanUp);

  describe('shared by both', () => {
    it('costs a round trip more before the first message, and none later', async () => {
      const peer = await startPeer({ secret });
      const { transport } = createSender({ secret });
      for (let i = 0; i < 5; i += 1) {
        expect(await transport.send(peer.id, ask(i), 5_000)).to.deep.equal({
          kind: 'answer',
          answer: answerTo(ask(i)),
        });
      }
      expect(peer.counters.refused.unknown_boot).to.equal(1);
      expect(peer.counters.received.handoff).to.equal(5);
    });

    it('lets many first messages through at once, each once, and in any order', async () => {
      const peer = await startPeer({
        secret,
        receive: (message) => sleep(Math.random() * 5).then(() => answerTo(message)),
      });
      const { transport } = createSender({ secret });
      const results = await Promise.all(Array.from({ length: 500 }, (_, i) => transport.send(peer.id, ask(i), 10_000)));
      expect(results.every(({ kind }) => kind === 'answer')).to.equal(true);
      expect(new Set(peer.received.map((message) => JSON.stringify(message))).size).to.equal(500);
      expect(peer.received).to.have.length(500);
      expect(peer.counters.refused.replayed + peer.counters.refused.too_old).to.equal(0);
    });

    it('shows in no failure when the peer starts again', async () => {
      const first = await startPeer({ secret });
      const { transport } = createSender({ secret });
      await transport.send(first.id, ask(1), 5_000);
      await first.peer.close(0);
      const second = await startPeer({ secret, port: first.port });
      // A start takes longer in production than the news that the old connection has ended.
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
      expect(peer.counters.refused.replayed).to.equal(0);
    });

    it('still carries every message when more senders come than the peer tells apart', async () => {
      const peer = await startPeer({ secret, maxSessions: 2 });
      const senders = Array.from({ length: 5 }, () => createSender({ secret }));
      for (let i = 0; i < 10; i += 1) {
        const results = await Promise.all(senders.map(({ transport }) => transport.send(peer.id, ask(i), 5_000)));
        // Who is pushed out again between two tries has to give up; the caller sends again.
        for (const result of results) expect(['answer', 'HTTP 401 unknown_boot']).to.include(reasonOf(result));
        for (const { transport } of senders) {
          expect(reasonOf(await transport.send(peer.id, ask(i), 5_000))).to.equal('answer');
        }
      }
      expect(peer.counters.refused.replayed).to.equal(0);
    });

    it('signs a message anew that too many later ones have overtaken, but not for ever', async () => {
      const verifier = createPeerAuth(secret).createVerifier();
      let requests = 0;
      let refuse = 1;
      const to = await startRaw((socket) =>
        socket.on('data', (bytes: Buffer) => {
          requests += 1;
          const credentials = verifier.read(/authorization: (.*)\r\n/.exec(bytes.toString())?.[1])!;
          const refused = requests <= refuse;
          const body = refused
            ? refusalBody('too_old', { boot: verifier.boot })
            : String(encodeAnswer(answerTo(ask(1))));
          const mac = verifier.signAnswer(credentials, refused ? 401 : 200, body);
          socket.write(http(refused ? 401 : 200, body, `Tokenring-Mac: ${mac}\r\n`));
        }),
      );
      const { transport } = createSender({ secret });
      expect(reasonOf(await transport.send(to, ask(1), 5_000))).to.equal('answer');
      expect(requests).to.equal(2);
      [requests, refuse] = [0, Infinity];
      expect(reasonOf(await transport.send(to, ask(1), 5_000))).to.equal('HTTP 401 too_old');
      expect(requests).to.equal(3);
    });
  });

  describe('not shared', () => {
    it('keeps a sender with another one out, and tells both', async () => {
      const peer = await startPeer({ secret });
      const { transport, log } = createSender({ secret: 'another' });
      expect(reasonOf(await transport.send(peer.id, ask(1), 5_000))).to.equal('HTTP 401 wrong_secret');
      expect(peer.received).to.deep.equal([]);
      expect(peer.counters.refused.wrong_secret).to.equal(1);
      expect(peer.log.lines[0]!.fields).to.include({ reason: 'wrong_secret', from: '127.0.0.1' });
      expect(log.lines[0]!.fields).to.include({ reason: 'HTTP 401 wrong_secret', peer: peer.id });
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

    it('exposes who poses as a peer', async () => {
      const { transport } = createSender({ secret });
      const ok = String(encodeAnswer(answerTo(ask(1))));
      for (const headers of ['', `Tokenring-Mac: ${'A'.repeat(43)}\r\n`, 'Tokenring-Mac: x\r\nTokenring-Mac: y\r\n']) {
        const result = await transport.send(await startAnswering(http(200, ok, headers)), ask(1), 5_000);
        expect(reasonOf(result)).to.equal('the answer is not signed with the peer secret');
      }
    });

    it('brings nobody to repeat a message', async () => {
      let requests = 0;
      const refusal = http(401, JSON.stringify({ code: 'unknown_boot', boot: 'A'.repeat(22) }));
      const to = await startRaw((socket) =>
        socket.on('data', () => {
          requests += 1;
          socket.write(refusal);
        }),
      );
      expect(reasonOf(await createSender({ secret }).transport.send(to, ask(1), 5_000))).to.equal(
        'HTTP 401 unknown_boot',
      );
      expect(requests).to.equal(1);
    });
  });

  describe('makes a message that somebody recorded', () => {
    it('worth nothing to the same peer, also when played many times at once', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port);
      await createSender({ secret }).transport.send(tap.id, ask(1), 5_000);
      expect(peer.received).to.have.length(1);
      const taken = tap.requests.at(-1)!;
      const answers = await Promise.all(Array.from({ length: 20 }, () => sendRaw(peer.port, taken)));
      for (const answer of answers) expect(answer).to.include({ status: 401, code: 'replayed' });
      expect(peer.received).to.have.length(1);
      expect(peer.counters.refused.replayed).to.equal(20);
    });

    it('worth nothing to the same peer after it has started again', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port);
      await createSender({ secret }).transport.send(tap.id, ask(1), 5_000);
      await peer.peer.close(0);
      const again = await startPeer({ secret, port: peer.port });
      for (const bytes of tap.requests) {
        expect(await sendRaw(again.port, bytes)).to.include({ status: 401, code: 'unknown_boot' });
      }
      expect(again.received).to.deep.equal([]);
    });

    it('worth nothing to another peer', async () => {
      const [peer, other] = [await startPeer({ secret }), await startPeer({ secret })];
      const tap = await startTap(peer.port);
      await createSender({ secret }).transport.send(tap.id, ask(1), 5_000);
      for (const bytes of tap.requests) {
        expect(await sendRaw(other.port, bytes)).to.include({ status: 401, code: 'unknown_boot' });
      }
      expect(other.received).to.deep.equal([]);
    });

    it('worth nothing once its session had to make room for others', async () => {
      const peer = await startPeer({ secret, maxSessions: 2 });
      const tap = await startTap(peer.port);
      await createSender({ secret }).transport.send(tap.id, ask(1), 5_000);
      for (let i = 0; i < 3; i += 1) await createSender({ secret }).transport.send(peer.id, ask(2), 5_000);
      const before = peer.received.length;
      for (const bytes of tap.requests) {
        expect(await sendRaw(peer.port, bytes)).to.include({ status: 401, code: 'unknown_boot' });
      }
      expect(peer.received).to.have.length(before);
    });
  });

  describe('shows what was changed on the way', () => {
    it('in a message', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port, { request: flip(',77,', ',78,') });
      const { transport } = createSender({ secret });
      expect(reasonOf(await transport.send(tap.id, ask(77), 5_000))).to.equal('HTTP 401 wrong_secret');
      expect((await transport.send(tap.id, ask(1), 5_000)).kind).to.equal('answer');
      expect(peer.received).to.deep.equal([ask(1)]);
    });

    it('in an answer', async () => {
      const peer = await startPeer({ secret });
      const tap = await startTap(peer.port, { answer: flip(',77,', ',78,') });
      const { transport } = createSender({ secret });
      expect(reasonOf(await transport.send(tap.id, ask(77), 5_000))).to.match(/not signed/);
      expect((await transport.send(tap.id, ask(1), 5_000)).kind).to.equal('answer');
    });

    it('when an answer is swapped for an earlier one', async () => {
      const peer = await startPeer({ secret });
      let earlier: Buffer | undefined;
      const tap = await startTap(peer.port, {
        answer(bytes) {
          if (bytes.includes('HTTP/1.1 200')) earlier ??= bytes;
          return earlier ?? bytes;
        },
      });
      const { transport } = createSender({ secret });
      expect((await transport.send(tap.id, ask(1), 5_000)).kind).to.equal('answer');
      expect(reasonOf(await transport.send(tap.id, ask(1), 5_000))).to.match(/not signed/);
      expect(peer.received).to.have.length(2);
    });
  });
});
