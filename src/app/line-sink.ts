import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** Bound of the lines that wait for a slow reader, in bytes. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** Pause before the next attempt to write to a full pipe. */
const RETRY_MS = 20;
const NEWLINE = Buffer.from('\n');

/**
 * Writes lines without ever stopping the process. A line that fails is lost and counted. The next line is tried again,
 * as a disk may have room by then.
 *
 * pino's own destination, `sonic-boom`, was tried (4.2.1): on a full disk it counts none of 100 lost lines, because it
 * keeps them until its buffer is full, and its flush at exit never ends there.
 */
export class LineSink {
  /** Number of lines lost so far. */
  dropped = 0;
  /** Lines that wait. `written` bytes of the first line are already written. */
  private readonly waiting: Buffer[] = [];
  private written = 0;
  private waitingBytes = 0;
  /** Whether a line was lost after its beginning had been written. The next line then starts on a new line. */
  private torn = false;
  private retry: NodeJS.Timeout | undefined;

  /**
   * @param writeBytes writes some of the bytes and returns how many; throws `EAGAIN` when there is no room now
   * @param onDrop called for each lost line with an error code such as `ENOSPC`, or `EAGAIN` when too many lines wait
   */
  constructor(
    private readonly writeBytes: (bytes: Buffer) => number,
    private readonly onDrop: (line: string, code: string) => void = () => undefined,
    private readonly maxWaitingBytes = MAX_WAITING_BYTES,
  ) {}

  /** Opens a sink on a descriptor. At exit, waiting lines are written as far as there is room. */
  static toFile(fd: number, onDrop?: (line: string, code: string) => void): LineSink {
    const sink = new LineSink((bytes) => writeSync(fd, bytes), onDrop);
    process.once('exit', () => sink.flush());
    return sink;
  }

  static toStdout(): LineSink {
    return LineSink.toFile(nonBlockingStdout());
  }

  /** Writes a line, or keeps it until there is room. Never throws, and never waits for a reader or for free space. */
  write(text: string): void {
    const line = Buffer.from(text);
    if (this.waitingBytes + line.length > this.maxWaitingBytes) return this.drop(line, 'EAGAIN');
    this.waiting.push(line);
    this.waitingBytes += line.length;
    if (this.waiting.length === 1) this.flush();
  }

  /** Writes the waiting lines, as far as there is room now. */
  flush(): void {
    for (let line = this.waiting[0]; line !== undefined; line = this.waiting[0]) {
      const code = this.writeFirst(line);
      if (code === 'EAGAIN') {
        this.retry ??= setTimeout(() => {
          this.retry = undefined;
          this.flush();
        }, RETRY_MS).unref();
        return;
      }
      this.waiting.shift();
      this.waitingBytes -= line.length;
      if (code !== undefined) {
        this.torn ||= this.written > 0;
        this.drop(line, code);
      }
      this.written = 0;
    }
  }

  /** @returns an error code, or `undefined` when the first waiting line is written */
  private writeFirst(line: Buffer): string | undefined {
    try {
      if (this.torn) {
        this.writeBytes(NEWLINE);
        this.torn = false;
      }
      while (this.written < line.length) this.written += this.writeBytes(line.subarray(this.written));
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'unknown';
    }
  }

  private drop(line: Buffer, code: string): void {
    this.dropped += 1;
    this.onDrop(line.toString(), code);
  }
}

/** Keeps standard output open and unblocked for as long as the process runs. */
let stdout: Socket | undefined;

/**
 * Returns a descriptor of standard output on which a write never waits for a reader. A terminal is opened again, so
 * that the shell that shares it keeps its mode. Writes to files do not wait for readers, so files keep their
 * descriptor.
 */
function nonBlockingStdout(): number {
  const stats = fstatSync(1);
  if (stats.isFIFO() || stats.isSocket()) {
    // libuv sets O_NONBLOCK on the descriptor, and restores it at exit.
    stdout ??= new Socket({ fd: 1, readable: false, writable: true }).unref();
    return 1;
  }
  if (!stats.isCharacterDevice()) return 1;
  try {
    const fd = openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (fstatSync(fd).isCharacterDevice()) return fd;
    closeSync(fd);
  } catch {
    // The terminal belongs to another user, or the system has no /proc.
  }
  return 1;
}
