import type { Socket } from 'node:net';
import { ByteWriter } from '../../lib/byte-writer.js';
import { createFrameReader, writeFrame } from './frame.js';
import type { LinkKeys } from './handshake.js';
import { createRecordReader, createSeal, MAX_BODY_BYTES } from './record.js';

/** Number of the frame by which a peer announces that it takes no more messages on this link. */
export const GOODBYE = 0;

/** Reason for the end of a link. */
export type LinkEnd =
  /** One of the two sides ended it. */
  | { readonly kind: 'closed' }
  | { readonly kind: 'failed'; readonly error: Error }
  /** The other side sent bytes that no peer sends. */
  | { readonly kind: 'refused'; readonly code: 'bad_record' | 'bad_tag' | 'too_large' };

/** A connection between two peers after their handshake. It carries frames in both directions, many at a time. */
export interface Link {
  /**
   * Sends a frame together with the others of this turn of the event loop, or once the other side reads again.
   * @returns false when the payload is larger than `maxSendBytes`, too many bytes wait, or the link has ended
   */
  send<T>(number: number, write: (out: ByteWriter, value: T) => void, value: T): boolean;
  /** Bytes that wait for the other side to read. */
  waitingBytes(): number;
  /** Bytes of a payload that has arrived in part. */
  heldBytes(): number;
  /** Stops reading until `resume`, so that the other side has to wait. */
  pause(): void;
  resume(): void;
  /** Ends the connection after everything already sent. */
  end(): void;
  destroy(): void;
}

interface LinkOptions {
  /** Bound of a payload to send, in bytes. */
  readonly maxSendBytes: number;
  /** Bound of a payload that arrives, in bytes. */
  readonly maxReceiveBytes: number;
  /** Bound of all frames that wait to be sent, in bytes. */
  readonly maxWaitingBytes: number;
}

interface LinkEvents {
  /** The payload is valid only during the call. */
  readonly received: (number: number, payload: Buffer) => void;
  /** Called once. */
  readonly ended: (end: LinkEnd) => void;
  /** Called when no more bytes wait to be sent. */
  readonly drained?: () => void;
  /** Called when `heldBytes` has changed by so much. At the end of the link, all of them are given back. */
  readonly held?: (change: number) => void;
}

export function createLink(
  socket: Socket,
  keys: LinkKeys | undefined,
  { maxSendBytes, maxReceiveBytes, maxWaitingBytes }: LinkOptions,
  { received, ended, drained, held }: LinkEvents,
): Link {
  const out = new ByteWriter();
  const seal = createSeal(keys?.send);
  let flushing = false;
  let over = false;
  let ending = false;

  function finish(end: LinkEnd): void {
    if (over) return;
    over = true;
    socket.destroy();
    reportHeld();
    ended(end);
  }

  function flush(): void {
    flushing = false;
    // While the other side does not read, frames wait here for 'drain'.
    if (over || socket.writableNeedDrain) return;
    if (out.length > 0) {
      socket.write(seal(out.bytes, out.length));
      out.clear();
    }
    if (ending) socket.end();
  }

  const records = createRecordReader(keys?.receive);
  const frames = createFrameReader(maxReceiveBytes);
  let lastRecordFull = false;
  let reported = 0;
  /** Whether the owner of the link has paused it, and whether the rest of a chunk waits for the next turn. */
  let paused = false;
  let deferred = false;

  function refuse(code: 'bad_record' | 'bad_tag' | 'too_large'): void {
    finish({ kind: 'refused', code });
  }

  function reportHeld(): void {
    const change = (over ? 0 : frames.heldBytes()) - reported;
    reported += change;
    if (change !== 0) held?.(change);
  }

  /** Takes the frames that have arrived, as many as one turn of the event loop may take. */
  function read(): void {
    for (let steps = 0; !over && !paused; steps += 1) {
      if (steps === MAX_STEPS) return readLater();
      const payload = frames.next();
      if (payload === 'too_large') return refuse(payload);
      if (payload !== undefined) {
        received(frames.number(), payload);
        continue;
      }
      if (frames.heldBytes() > 0 && !lastRecordFull) return refuse('bad_record');
      const record = records.next();
      if (record === undefined) return void socket.resume();
      if (typeof record === 'string') return refuse(record);
      lastRecordFull = record.length === MAX_BODY_BYTES;
      frames.push(record);
    }
  }

  function readLater(): void {
    socket.pause();
    if (deferred) return;
    deferred = true;
    setImmediate(() => {
      deferred = false;
      read();
      if (!over) reportHeld();
    });
  }

  socket.setNoDelay(true);
  socket.setKeepAlive(true, KEEP_ALIVE_MS);
  socket.on('data', (chunk: Buffer) => {
    records.push(chunk);
    if (!deferred) read();
    if (!over) reportHeld();
  });
  socket.on('drain', () => {
    flush();
    if (out.length === 0 && !socket.writableNeedDrain) drained?.();
  });
  socket.on('error', (error) => finish({ kind: 'failed', error }));
  socket.on('end', () => finish({ kind: 'closed' }));
  socket.on('close', () => finish({ kind: 'closed' }));

  return {
    send(number, write, value) {
      if (over || ending || out.length + socket.writableLength > maxWaitingBytes) return false;
      const start = out.length;
      if (writeFrame(out, number, write, value) > maxSendBytes) {
        out.length = start;
        return false;
      }
      if (!flushing) {
        flushing = true;
        process.nextTick(flush);
      }
      return true;
    },
    waitingBytes: () => out.length + socket.writableLength,
    heldBytes: () => frames.heldBytes(),
    pause() {
      paused = true;
      socket.pause();
    },
    resume() {
      paused = false;
      readLater();
    },
    end() {
      if (ending || over) return;
      ending = true;
      // The other side may have gone without closing the connection.
      setTimeout(() => finish({ kind: 'closed' }), END_GRACE_MS).unref();
      if (!flushing) flush();
    },
    destroy: () => finish({ kind: 'closed' }),
  };
}

/**
 * Records and frames that are taken in one turn of the event loop. Each costs at least some microseconds: a tag, and a
 * message or its refusal. 64 KiB, which arrive at once, may hold thousands of them.
 */
const MAX_STEPS = 256;
/** Time that the other side has to end the link as well. */
const END_GRACE_MS = 5_000;
/** Time without a byte after which the system checks whether the other side is still there. */
const KEEP_ALIVE_MS = 15_000;
