import type { Session } from './session.js';
import { ErrorText, OK, Status, type Value } from './value.js';

/** Bounds of the commands between `MULTI` and `EXEC`. */
const MAX_COMMANDS = 1_000;
const MAX_BYTES = 128 * 1024;

const QUEUED = new Status('QUEUED');
const NESTED = new ErrorText('ERR MULTI calls can not be nested');
const ABORTED = new ErrorText('EXECABORT Transaction discarded because of previous errors.');
const FULL = new ErrorText(`ERR too much between MULTI and EXEC; use at most ${MAX_COMMANDS} commands, 128 KiB in all`);

/** `run`: the queued commands, which now run in order; the answer is an array with the answers of all. */
type Taken = { readonly run: Buffer; readonly count: number } | { readonly answer: Value };

/**
 * The commands of one connection between `MULTI` and `EXEC`, as their bytes. Libraries wrap pipelines in a transaction.
 * `EXEC` runs the commands one after the other; others may be decided in between.
 */
export class Transaction {
  private queued: Buffer[] = [];
  private hasFailed = false;
  /** Whether `MULTI` has come, and neither `EXEC` nor `DISCARD`. */
  isOpen = false;
  /** Bytes of the queued commands. */
  bytes = 0;

  /**
   * Takes a command that is not refused.
   * @param bytes of the command; they are copied
   * @returns `undefined` for a command that runs at once
   * @throws TokenringError `unauthorized`
   */
  take(name: string, bytes: Buffer, session: Session): Taken | undefined {
    switch (name) {
      case 'MULTI':
        if (this.isOpen) return { answer: NESTED };
        session.requireToken();
        this.isOpen = true;
        return { answer: OK };
      case 'EXEC':
      case 'DISCARD':
        if (this.isOpen) return this.end(name);
        session.requireToken();
        return { answer: new ErrorText(`ERR ${name} without MULTI`) };
      case 'RESET':
        this.close();
        return undefined;
      case 'QUIT':
        return undefined;
      default:
        return this.isOpen ? { answer: this.queue(bytes) } : undefined;
    }
  }

  /** Notes that a command was refused. `EXEC` then runs none. */
  fail(): void {
    this.hasFailed = this.isOpen;
  }

  private end(name: 'EXEC' | 'DISCARD'): Taken {
    const { queued, hasFailed } = this;
    this.close();
    if (name === 'DISCARD') return { answer: OK };
    return hasFailed ? { answer: ABORTED } : { run: Buffer.concat(queued), count: queued.length };
  }

  private queue(bytes: Buffer): Value {
    if (this.queued.length >= MAX_COMMANDS || this.bytes + bytes.length > MAX_BYTES) {
      this.fail();
      return FULL;
    }
    // A copy, which pins no other memory.
    this.queued.push(Buffer.from(bytes));
    this.bytes += bytes.length;
    return QUEUED;
  }

  private close(): void {
    this.queued = [];
    this.bytes = 0;
    this.hasFailed = false;
    this.isOpen = false;
  }
}
