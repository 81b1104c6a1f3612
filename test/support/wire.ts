import { ByteWriter } from '../../src/lib/byte-writer.js';
import type { Envelope, PeerAnswer, PeerMessage } from '../../src/protocol/messages.js';
import { writeAnswer, writeMessage } from '../../src/protocol/format/messages.js';
import { encodeClients } from '../../src/state/client-format.js';

export const NO_CLIENTS = encodeClients([]);

export function encodeMessage(message: Envelope<PeerMessage>): Buffer {
  const out = new ByteWriter();
  writeMessage(out, message);
  return out.copy();
}

export function encodeAnswer(answer: Envelope<PeerAnswer>): Buffer {
  const out = new ByteWriter();
  writeAnswer(out, answer);
  return out.copy();
}
