import type { Socket } from 'node:net';
import { TokenringError } from '../../lib/error.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import type { WriterPool } from '../edge/answer-buffers.js';
import type { ArrivingBody } from '../edge/arriving.js';
import type { Connection, ConnectionState, OpenConnection } from '../edge/connections.js';
import type { ServerContext } from '../edge/server-context.js';
import type { CommandReader, Read } from './command-reader.js';
import type { Commands } from './commands.js';
import type { DecisionWriter } from './decision-writer.js';
import { Session } from './session.js';
import { Transaction } from './transaction.js';
import { ErrorText, writeArrayHead, writeValue, type Value } from './value.js';

/** Answers that are kept before they are written. More commands wait until the client reads. */
const MAX_OUTPUT_BYTES = 64 * 1024;
/** Commands that take the general way and that a connection runs before others have their turn. */
const COMMANDS_A_STEP = 16;
const NO_BYTES = Buffer.alloc(0);

/** What the connections of a server share. */
export interface RespShared {
  readonly context: ServerContext;
  readonly commands: Commands;
  readonly reader: CommandReader;
  readonly writer: DecisionWriter;
  readonly pool: WriterPool;
  /** Whether each connection ends once its commands are answered. */
  isDraining: boolean;
}

type CheckCommands = Extract<Read, { kind: 'checks' }>;

/**
 * A connection of the Redis protocol. It answers commands in order. All checks of a chunk are one batch. While a
 * batch waits for other nodes, or the client does not read, the connection reads no more.
 */
export class RespConnection implements Connection {
  private readonly session: Session;
  private readonly transaction = new Transaction();
  /** The memory of `input`, and of what the transaction keeps. */
  private readonly arriving: ArrivingBody;
  private input: Buffer = NO_BYTES;
  /** Smallest number of bytes of input that may complete a command. */
  private needed = 1;
  private out: ByteWriter | undefined = undefined;
  /** Whether a command waits for its answer, for its turn, or for the client to read. */
  private isBusy = false;
  private isHalfClosed = false;
  private activeAtMs: number;
  /** The commands that `EXEC` runs, before the rest of the input. */
  private replayed: Buffer = NO_BYTES;

  constructor(
    private readonly shared: RespShared,
    private readonly socket: Socket,
    private readonly open: OpenConnection,
  ) {
    const { access, arriving } = shared.context;
    this.session = new Session(access);
    this.arriving = arriving.begin(socket.remoteAddress);
    this.activeAtMs = shared.context.elapsedMs();
    socket.on('data', (chunk: Buffer) => this.received(chunk));
    socket.on('finish', () => (this.activeAtMs = shared.context.elapsedMs()));
    socket.on('error', () => void socket.destroy());
    socket.on('end', () => {
      this.isHalfClosed = true;
      if (!this.isBusy) this.finish();
    });
    socket.on('close', () => {
      this.input = NO_BYTES;
      this.arriving.release();
    });
  }

  state(): ConnectionState {
    const { socket, isBusy, input, transaction } = this;
    if (socket.writableFinished) return 'ended';
    if (isBusy || socket.writableEnded) return 'busy';
    return input.length > 0 || transaction.isOpen ? 'arriving' : 'idle';
  }

  sinceMs(): number {
    return this.activeAtMs;
  }

  unreadBytes(): number {
    return 0;
  }

  end(reason: 'idle' | 'timeout' | 'draining'): void {
    if (reason !== 'draining') this.socket.destroy();
    else if (this.state() === 'idle') this.finish();
  }

  private received(chunk: Buffer): void {
    const { socket, shared, input } = this;
    if (socket.writableEnded) return;
    if (input.length === 0) this.activeAtMs = shared.context.elapsedMs();
    this.input = input.length === 0 ? chunk : joined(input, chunk);
    if (this.isBusy) {
      socket.pause();
      this.keep(0);
    } else if (this.input.length < this.needed) this.keep(0);
    else {
      this.needed = 1;
      this.proceed(0);
    }
  }

  /** @param granted commands that may run although others wait */
  private proceed(granted: number): void {
    const { socket, session, transaction, shared } = this;
    const { reader, context } = shared;
    const { turns } = context;
    let at = 0;
    let left = granted;
    while (at < this.input.length && !session.isEnding && !this.mustWait()) {
      const read = reader.read(this.input, at, transaction.isOpen);
      if (read.kind === 'command' && left <= 0) {
        // It is read again in its turn.
        if (!turns.mayWork()) {
          this.waitForTurn(read.name === 'TR.SETTLE' ? 'decision' : 'other');
          break;
        }
        left = COMMANDS_A_STEP;
      }
      const bytes = this.input.subarray(at, reader.endAt);
      at = reader.endAt;
      // The rest of the input must be there before a command that waits goes on.
      if (this.step(read, bytes) !== 'next') break;
      if (this.replayed.length > 0) {
        this.input = joined(this.replayed, this.input.subarray(at));
        this.replayed = NO_BYTES;
        at = 0;
      }
      left -= read.kind === 'checks' ? read.general : 1;
      // Checks in a form that is new are read as slowly as commands.
      if (read.kind === 'checks' && left < 0 && at < this.input.length && !turns.mayWork()) {
        this.waitForTurn('decision');
        break;
      }
    }
    if (at > 0) this.activeAtMs = context.elapsedMs();
    this.keep(at);
    if (this.isBusy || socket.destroyed) return;
    if (session.isEnding || ((this.isHalfClosed || shared.isDraining) && this.input.length === 0)) return this.finish();
    this.send();
    if (this.isHalfClosed) return this.finish();
    if (socket.writableNeedDrain) this.waitForReader();
    else socket.resume();
  }

  /** Answers one command, or several checks. @returns how it goes on */
  private step(read: Read, bytes: Buffer): 'next' | 'wait' | 'stop' {
    const { session, transaction, shared } = this;
    switch (read.kind) {
      case 'incomplete':
        this.needed = read.needed;
        return 'stop';
      case 'broken':
        this.answer(new ErrorText(`ERR Protocol error: ${read.text}`));
        shared.context.counters.countProblem('invalid_request');
        session.isEnding = true;
        return 'next';
      case 'refused':
        this.answer(read.error);
        transaction.fail();
        return 'next';
      case 'checks':
      case 'command': {
        // A browser that is led here sends lines of HTTP, with commands in its body.
        if (read.kind === 'command' && read.isLine && !shared.commands.has(read.name)) session.isEnding = true;
        const later = read.kind === 'checks' ? this.decide(read) : this.run(read.name, read.args, bytes);
        if (later === undefined) return 'next';
        this.wait(later);
        return 'wait';
      }
    }
  }

  /** @returns a promise if the answers come later */
  private decide({ batch, replies }: CheckCommands): Promise<void> | undefined {
    const { session, shared, open } = this;
    const { context, writer } = shared;
    const { counters, access } = context;
    counters.inFlight += 1;
    const startMs = context.elapsedMs();
    const decided = (): undefined => {
      writer.write(this.output(), batch, replies, session.protocol);
      const only = batch.size === 1 ? batch.items[0] : undefined;
      if (only?.error !== undefined) counters.inFlight -= 1;
      else {
        context.answered(only?.provenance?.source ?? 'batch', startMs);
        open.served();
      }
    };
    let later: Promise<void> | undefined;
    context.answer(
      () => {
        context.requireReady();
        if (access.guardsDecisions()) session.requireRole('decide');
        return (later = context.decide(batch, decided));
      },
      (error) => {
        const problem = context.failed(error);
        // A fault of the node may have left some of the answers.
        if (problem.code === 'internal') session.isEnding = true;
        for (let index = 0; index < batch.size; index += 1) writeValue(this.output(), problem, session.protocol);
      },
    );
    return later;
  }

  /** Runs a command, or what `EXEC` runs. @param bytes of the command @returns a promise if the answer comes later */
  private run(name: string, args: readonly string[], bytes: Buffer): Promise<void> | undefined {
    const { session, transaction, shared } = this;
    const { commands, context } = shared;
    const refusal = commands.refusal(name, args);
    if (refusal !== undefined) {
      transaction.fail();
      return this.answer(refusal);
    }
    let value: Value | Promise<Value>;
    try {
      const taken = transaction.take(name, bytes, session);
      if (taken !== undefined && 'run' in taken) {
        writeArrayHead(this.output(), taken.count);
        this.replayed = taken.run;
        return undefined;
      }
      value = taken?.answer ?? commands.run(name, args, session);
      if (value instanceof Promise) context.admission.requireCapacity();
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      value = error;
    }
    return value instanceof Promise ? this.answerLater(value) : this.answer(value);
  }

  private answerLater(value: Promise<Value>): Promise<void> {
    const { context } = this.shared;
    context.counters.inFlight += 1;
    const answered = value.then((settled) => {
      context.counters.inFlight -= 1;
      this.answer(settled);
    });
    context.admission.wait(answered, (error) => this.answer(context.failed(error)));
    return answered;
  }

  private answer(value: Value): undefined {
    if (value instanceof TokenringError) this.shared.context.counters.countProblem(value.code);
    else if (!(value instanceof ErrorText)) this.open.served();
    writeValue(this.output(), value, this.session.protocol);
  }

  private output(): ByteWriter {
    return (this.out ??= this.shared.pool.take());
  }

  private send(): void {
    const { socket, out } = this;
    if (out === undefined) return;
    this.out = undefined;
    if (socket.destroyed || out.size === 0) return this.shared.pool.giveBack(out);
    socket.write(out.withHead(''));
    // The system has copied all bytes, so their memory can be used again.
    if (socket.writableLength === 0) this.shared.pool.giveBack(out);
  }

  /** Sends all answers, and ends the connection. */
  private finish(): void {
    const { socket } = this;
    this.send();
    this.input = NO_BYTES;
    this.arriving.release();
    // The node reads and drops further bytes, so that a reset does not lose the last answers.
    if (!socket.writableEnded) socket.end();
    socket.resume();
  }

  /** @returns whether the connection must wait before it reads on */
  private mustWait(): boolean {
    if (this.out !== undefined && this.out.size >= MAX_OUTPUT_BYTES) this.send();
    if (this.socket.writableNeedDrain) this.waitForReader();
    return this.isBusy;
  }

  private waitForReader(): void {
    this.wait(new Promise((resolve) => void this.socket.once('drain', resolve)));
  }

  private wait(later: Promise<void>): void {
    this.pause();
    const goOn = (): void => this.goOn(0);
    // Its failure is answered already.
    later.then(goOn, goOn);
  }

  private waitForTurn(lane: 'decision' | 'other'): void {
    this.pause();
    this.shared.context.turns.later(lane, () => {
      if (!this.socket.destroyed) this.goOn(COMMANDS_A_STEP);
    });
  }

  private pause(): void {
    this.isBusy = true;
    this.send();
    this.socket.pause();
  }

  /** @param commands commands that may run before others have their turn */
  private goOn(commands: number): void {
    this.isBusy = false;
    this.activeAtMs = this.shared.context.elapsedMs();
    this.proceed(commands);
  }

  /** Keeps the input that is not answered, in memory of its own. */
  private keep(from: number): void {
    const { input, arriving } = this;
    arriving.release();
    const rest = input.length - from;
    this.input = rest === 0 ? NO_BYTES : from === 0 ? input : joined(NO_BYTES, input.subarray(from));
    const kept = rest + this.transaction.bytes;
    if (kept > 0 && !arriving.add(kept)) {
      this.shared.context.counters.countProblem('overloaded');
      this.socket.destroy();
    }
  }
}

/** Joins bytes in memory of their own, which pins no other. */
function joined(first: Buffer, second: Buffer): Buffer {
  const bytes = Buffer.allocUnsafeSlow(first.length + second.length);
  first.copy(bytes);
  second.copy(bytes, first.length);
  return bytes;
}
