import type { Socket } from 'node:net';
import { ByteWriter } from '../../lib/byte-writer.js';
import { FrameReader, writeFrame } from './frame.js';
import type { LinkKeys } from './handshake.js';
import { MAX_BODY_BYTES, RecordReader, RecordWriter } from './record.js';

/** Number of the frame by which a peer announces that it takes no more messages on this link. */
export const GOODBYE = 0;

/** Reason for the end of a link. */
export type LinkEnd =
  /** One of the two sides ended it. */
  | { readonly kind: 'closed' }
  | { readonly kind: 'failed'; readonly error: Error }
  /** The other side sent bytes that no peer sends. */
  | { readonly kind: 'refused'; readonly code: 'bad_record' | 'bad_tag' | 'too_large' };

export interface LinkOptions {
  /** Bound of a payload to send, in bytes. */
  readonly maxSendBytes: number;
  /** Bound of a payload that arrives, in bytes. */
  readonly maxReceiveBytes: number;
  /** Bound of all frames that wait to be sent, in bytes. */
  readonly maxWaitingBytes: number;
}

export interface LinkEvents {
  /** The payload is valid only during the call. */
  readonly received: (number: number, payload: Buffer) => void;
  /** Called once. */
  readonly ended: (end: LinkEnd) => void;
  /** Called when no more bytes wait to be sent. */
  readonly drained?: () => void;
  /** Called when `heldBytes` has changed by so much. At the end of the link, all of them are given back. */
  readonly held?: (change: number) => void;
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

/** A connection between two peers after their handshake. It carries frames in both directions, many at a time. */
export class Link {
  private readonly out = new ByteWriter();
  private readonly sealer: RecordWriter;
  private readonly records: RecordReader;
  private readonly frames: FrameReader;
  private flushing = false;
  private over = false;
  private ending = false;
  private lastRecordFull = false;
  private reportedBytes = 0;
  /** Whether the owner of the link has paused it, and whether the rest of a chunk waits for the next turn. */
  private paused = false;
  private deferred = false;

  constructor(
    private readonly socket: Socket,
    keys: LinkKeys | undefined,
    private readonly options: LinkOptions,
    private readonly events: LinkEvents,
  ) {
    this.sealer = new RecordWriter(keys?.send);
    this.records = new RecordReader(keys?.receive);
    this.frames = new FrameReader(options.maxReceiveBytes);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_MS);
    socket.on('data', (chunk: Buffer) => {
      this.records.push(chunk);
      if (!this.deferred) this.read();
      if (!this.over) this.reportHeld();
    });
    socket.on('drain', () => {
      this.flush();
      if (this.out.length === 0 && !socket.writableNeedDrain) events.drained?.();
    });
    socket.on('error', (error) => this.finish({ kind: 'failed', error }));
    socket.on('end', () => this.finish({ kind: 'closed' }));
    socket.on('close', () => this.finish({ kind: 'closed' }));
  }

  /**
   * Sends a frame together with the others of this turn of the event loop, or once the other side reads again.
   * @returns false when the payload is larger than `maxSendBytes`, too many bytes wait, or the link has ended
   */
  send<T>(number: number, write: (out: ByteWriter, value: T) => void, value: T): boolean {
    const { out } = this;
    if (this.over || this.ending || this.waitingBytes() > this.options.maxWaitingBytes) return false;
    const start = out.length;
    if (writeFrame(out, number, write, value) > this.options.maxSendBytes) {
      out.length = start;
      return false;
    }
    if (!this.flushing) {
      this.flushing = true;
      process.nextTick(() => this.flush());
    }
    return true;
  }

  /** Bytes that wait for the other side to read. */
  waitingBytes(): number {
    return this.out.length + this.socket.writableLength;
  }

  /** Bytes of a payload that has arrived in part. */
  heldBytes(): number {
    return this.frames.heldBytes;
  }

  /** Stops reading until `resume`, so that the other side has to wait. */
  pause(): void {
    this.paused = true;
    this.socket.pause();
  }

  resume(): void {
    this.paused = false;
    this.readLater();
  }

  /** Ends the connection after everything already sent. */
  end(): void {
    if (this.ending || this.over) return;
    this.ending = true;
    // The other side may have gone without closing the connection.
    setTimeout(() => this.destroy(), END_GRACE_MS).unref();
    if (!this.flushing) this.flush();
  }

  destroy(): void {
    this.finish({ kind: 'closed' });
  }

  private finish(end: LinkEnd): void {
    if (this.over) return;
    this.over = true;
    this.socket.destroy();
    this.reportHeld();
    this.events.ended(end);
  }

  private flush(): void {
    const { out, socket } = this;
    this.flushing = false;
    // While the other side does not read, frames wait here for 'drain'.
    if (this.over || socket.writableNeedDrain) return;
    if (out.length > 0) {
      socket.write(this.sealer.seal(out.bytes, out.length));
      out.clear();
    }
    if (this.ending) socket.end();
  }

  private refuse(code: 'bad_record' | 'bad_tag' | 'too_large'): void {
    this.finish({ kind: 'refused', code });
  }

  private reportHeld(): void {
    const change = (this.over ? 0 : this.frames.heldBytes) - this.reportedBytes;
    this.reportedBytes += change;
    if (change !== 0) this.events.held?.(change);
  }

  /** Takes the frames that have arrived, as many as one turn of the event loop may take. */
  private read(): void {
    const { frames, records } = this;
    for (let steps = 0; !this.over && !this.paused; steps += 1) {
      if (steps === MAX_STEPS) return this.readLater();
      const payload = frames.next();
      if (payload === 'too_large') return this.refuse(payload);
      if (payload !== undefined) {
        this.events.received(frames.number, payload);
        continue;
      }
      if (frames.heldBytes > 0 && !this.lastRecordFull) return this.refuse('bad_record');
      const record = records.next();
      if (record === undefined) return void this.socket.resume();
      if (typeof record === 'string') return this.refuse(record);
      this.lastRecordFull = record.length === MAX_BODY_BYTES;
      frames.push(record);
    }
  }

  private readLater(): void {
    this.socket.pause();
    if (this.deferred) return;
    this.deferred = true;
    setImmediate(() => {
      this.deferred = false;
      this.read();
      if (!this.over) this.reportHeld();
    });
  }
}
