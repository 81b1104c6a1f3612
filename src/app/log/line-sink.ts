import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';

/** Bound of the lines that wait for a slow reader, in bytes. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** Pause before the next attempt to write to a full pipe. */
const RETRY_MS = 20;

export interface LineSink {
  /** Writes a line, or keeps it until there is room. Never throws, and never waits for a reader or for free space. */
  readonly write: (line: string) => void;
  /** Number of lines lost so far. */
  dropped(): number;
  /** Writes the waiting lines, as far as there is room now. */
  readonly flush: () => void;
}

interface LineSinkOptions {
  readonly maxWaitingBytes?: number;
  /** Called for each lost line with an error code such as `ENOSPC`, or with `EAGAIN` when too many lines wait. */
  readonly onDrop?: (line: string, code: string) => void;
}

/**
 * Writes lines without ever stopping the process. A line that fails is lost and counted. The next line is tried again,
 * as a disk may have room by then.
 * @param write writes some of the bytes and returns how many; throws `EAGAIN` when there is no room now
 */
export function createLineSink(write: (bytes: Buffer) => number, options: LineSinkOptions = {}): LineSink {
  const { maxWaitingBytes = MAX_WAITING_BYTES, onDrop } = options;
  /** Lines that wait. `written` bytes of the first line are already written. */
  const waiting: Buffer[] = [];
  let written = 0;
  let waitingBytes = 0;
  /** Whether a line was lost after its beginning had been written. The next line then starts on a new line. */
  let torn = false;
  let dropped = 0;
  let retry: NodeJS.Timeout | undefined;

  function drop(bytes: Buffer, code: string): void {
    dropped += 1;
    onDrop?.(bytes.toString(), code);
  }

  /** @returns an error code, or `undefined` when the first waiting line is written */
  function writeFirst(line: Buffer): string | undefined {
    try {
      if (torn) {
        write(NEWLINE);
        torn = false;
      }
      while (written < line.length) written += write(line.subarray(written));
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'unknown';
    }
  }

  function flush(): void {
    for (let line = waiting[0]; line !== undefined; line = waiting[0]) {
      const code = writeFirst(line);
      if (code === 'EAGAIN') {
        retry ??= setTimeout(() => {
          retry = undefined;
          flush();
        }, RETRY_MS).unref();
        return;
      }
      waiting.shift();
      waitingBytes -= line.length;
      if (code !== undefined) {
        torn ||= written > 0;
        drop(line, code);
      }
      written = 0;
    }
  }

  return {
    write(text) {
      const line = Buffer.from(text);
      if (waitingBytes + line.length > maxWaitingBytes) return drop(line, 'EAGAIN');
      waiting.push(line);
      waitingBytes += line.length;
      if (waiting.length === 1) flush();
    },
    dropped: () => dropped,
    flush,
  };
}

const NEWLINE = Buffer.from('\n');

/** Creates a line sink on a descriptor. At exit, waiting lines are written as far as there is room. */
export function createFileSink(fd: number, options?: LineSinkOptions): LineSink {
  const sink = createLineSink((bytes) => writeSync(fd, bytes), options);
  process.once('exit', sink.flush);
  return sink;
}

/** Creates a line sink on standard output. */
export function createStdoutSink(options?: LineSinkOptions): LineSink {
  return createFileSink(nonBlockingStdout(), options);
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
