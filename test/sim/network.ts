import { decodeAnswer, decodeMessage, inspect } from '../../src/protocol/format/messages.js';
import { encodeAnswer, encodeMessage } from '../support/wire.js';
import type { Envelope, PeerAnswer, PeerMessage, PeerResult, PeerTransport } from '../../src/protocol/messages.js';
import type { EventQueue } from './event-queue.js';
import { runIn, type Process } from './process.js';
import type { Random } from './random.js';

/** The connection breaks: who waits for the answer learns it, and the message may have arrived before. */
export interface Broken {
  readonly brokenAfterMs: number;
  readonly arrivesAfterMs: number | undefined;
}

/** What becomes of one message, one way: it arrives after so many ms, or is lost without anyone noticing, or breaks. */
export type Passage = number | undefined | Broken;

export type Link = (from: string, to: string, random: Random) => Passage;

/** A fault in the program, at its edge: changes a message, or drops it. */
export interface Tamper {
  message?(from: string, to: string, sent: Envelope<PeerMessage>): Envelope<PeerMessage> | undefined;
  answer?(
    from: string,
    to: string,
    sent: Envelope<PeerAnswer>,
    to_: Envelope<PeerMessage>,
  ): Envelope<PeerAnswer> | undefined;
}

export interface Network {
  readonly queue: EventQueue;
  readonly processes: ReadonlyMap<string, Process>;
  readonly bytes: boolean;
  pass(from: string, to: string): Passage;
  readonly tamper: Tamper | undefined;
  readonly note: ((line: string) => void) | undefined;
}

/** As TCP and HTTP show a network: a message arrives once, late or never, and a broken connection is noticed. */
export function connectionsOf(process: Process, network: Network): PeerTransport {
  const { queue, processes, tamper, note } = network;

  return {
    send: (to, message, timeoutMs) =>
      new Promise((resolve) => {
        let over = false;
        const receiver = processes.get(to);
        const end = (result: PeerResult): void => {
          over = true;
          receiver?.connections.delete(breakOff);
          resolve(result);
        };
        /** Goes back to the sender, who is told when the message gets there. */
        const back = (result: PeerResult): void => {
          const passage = network.pass(to, process.id);
          if (passage === undefined) return;
          const afterMs = typeof passage === 'number' ? passage : passage.brokenAfterMs;
          const told: PeerResult = typeof passage === 'number' ? result : { kind: 'broken', reason: 'reset' };
          queue.add(afterMs, () => runIn(process, 'arrived', () => (over ? undefined : end(told))));
        };
        const breakOff = (): void => back({ kind: 'broken', reason: 'the process ended' });
        queue.add(timeoutMs, () =>
          over ? undefined : runIn(process, 'due', () => (over ? undefined : end({ kind: 'timeout' }))),
        );

        const tampered = tamper?.message === undefined ? message : tamper.message(process.id, to, message);
        if (tampered === undefined) return;
        const sent = network.bytes ? decodeMessage(Buffer.from(encodeMessage(tampered))) : tampered;
        note?.(`${process.id} -> ${to} ${inspect(sent.body)}`);
        const passage = network.pass(process.id, to);
        if (passage === undefined) return;
        let arrivesAfterMs: number | undefined;
        if (typeof passage === 'number') arrivesAfterMs = passage;
        else {
          ({ arrivesAfterMs } = passage);
          queue.add(passage.brokenAfterMs, () =>
            runIn(process, 'arrived', () => (over ? undefined : end({ kind: 'broken', reason: 'reset' }))),
          );
        }
        if (arrivesAfterMs === undefined) return;
        receiver?.connections.add(breakOff);
        queue.add(arrivesAfterMs, () => {
          if (receiver?.state === 'gone' || processes.get(to)?.state === 'gone') return;
          if (receiver === undefined || receiver.state === 'dead') return back({ kind: 'refused' });
          runIn(receiver, 'arrived', () => {
            void receiver.cluster.receive(sent).then((envelope) => {
              if (receiver.state === 'dead' || receiver.state === 'gone') return;
              const spoilt = tamper?.answer === undefined ? envelope : tamper.answer(to, process.id, envelope, sent);
              if (spoilt === undefined) return;
              const answer = network.bytes ? decodeAnswer(Buffer.from(encodeAnswer(spoilt))) : spoilt;
              note?.(`${process.id} <- ${to} ${inspect(answer.body)}`);
              back({ kind: 'answer', answer });
            });
          });
        });
      }),
  };
}
