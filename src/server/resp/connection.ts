import type { Socket } from 'node:net';
import { waitingBatchBytes } from '../../limits/heap-bytes.js';
import { TokenringError } from '../../lib/error.js';
import type { Connection, OpenConnection } from '../edge/connections.js';
import { notJoined, type ServerContext } from '../edge/server-context.js';
import type { ByteWriter } from '../../lib/byte-writer.js';
import { WriterPool } from '../edge/writer-pool.js';
import { CommandReader, type Read } from './command-reader.js';
import type { Commands } from './commands.js';
import { createDecisionWriter } from './decision-writer.js';
import { createSession } from './session.js';
import { Transaction } from './transaction.js';
import { ErrorText, writeArrayHead, writeValue, type Value } from './value.js';

/** Answers that are kept before they are written. More commands wait until the client reads. */
const MAX_OUTPUT_BYTES = 64 * 1024;
/** Commands that take the general way and that a connection runs before others have their turn. */
const COMMANDS_A_STEP = 16;
const NO_BYTES = Buffer.alloc(0);

interface ConnectionsDeps {
  readonly context: ServerContext;
  readonly commands: Commands;
  /** Whether the node has joined the ring. Before, it cannot decide. */
  readonly hasJoined: () => boolean;
  /** Whether each connection ends once its commands are answered. */
  readonly isDraining: () => boolean;
}

type Questions = Extract<Read, { kind: 'questions' }>;

/**
 * Answers the commands of connections in order. All questions of a chunk are one batch. While a batch waits for other
 * nodes, or the client does not read, the connection reads no more.
 */
export function createConnectionHandler(deps: ConnectionsDeps): (socket: Socket, open: OpenConnection) => Connection {
  const { context, commands, hasJoined, isDraining } = deps;
  const { access, arriving, counters, elapsedMs, limiter, turns, admission } = context;
  const reader = new CommandReader(context.policies);
  const writer = createDecisionWriter(counters);
  const pool = new WriterPool();

  return (socket, open) => {
    const session = createSession(access);
    const transaction = new Transaction();
    const held = arriving.begin(socket.remoteAddress);
    let input: Buffer = NO_BYTES;
    let needed = 1;
    let out: ByteWriter | undefined;
    /** A command waits for its answer, for its turn, or for the client to read. */
    let busy = false;
    let halfClosed = false;
    let sinceMs = elapsedMs();
    /** The commands that `EXEC` runs, before the rest of the input. */
    let replayed: Buffer = NO_BYTES;

    function send(): void {
      if (out === undefined) return;
      const sent = out;
      out = undefined;
      if (socket.destroyed || sent.size === 0) return pool.giveBack(sent);
      socket.write(sent.withHead(''));
      // The system has copied all bytes, so their memory can be used again.
      if (socket.writableLength === 0) pool.giveBack(sent);
    }

    function answer(value: Value): void {
      if (value instanceof TokenringError) counters.countProblem(value.code);
      else if (!(value instanceof ErrorText)) open.served();
      writeValue((out ??= pool.take()), value, session.protocol);
    }

    function end(): void {
      send();
      input = NO_BYTES;
      held.release();
      // The node reads and drops further bytes, so that a reset does not lose the last answers.
      if (!socket.writableEnded) socket.end();
      socket.resume();
    }

    /** Why no question is answered now; `undefined` if there is no reason. */
    function refusal(isBatch: boolean): unknown {
      try {
        if (access.guardsDecisions()) session.require('decide');
        if (!hasJoined()) throw notJoined();
        admission.requirePlace();
        admission.requireRoom(isBatch ? 'batch' : 'check');
        return undefined;
      } catch (error) {
        return error;
      }
    }

    /** @returns a promise if the answers come later */
    function decide({ batch, replies }: Questions): Promise<void> | undefined {
      counters.inFlight += 1;
      const startMs = elapsedMs();
      const refused = refusal(batch.size > 1);
      if (refused !== undefined) {
        const problem = context.failed(refused);
        for (let place = 0; place < batch.size; place += 1)
          writeValue((out ??= pool.take()), problem, session.protocol);
        return undefined;
      }
      const write = (): void => {
        writer.write((out ??= pool.take()), batch, replies, session.protocol);
        const only = batch.size === 1 ? batch.items[0] : undefined;
        if (only?.error !== undefined) counters.inFlight -= 1;
        else {
          context.answered(only?.origin?.source ?? 'batch', startMs);
          open.served();
        }
      };
      const later = limiter.decide(batch);
      if (later === undefined) {
        write();
        return undefined;
      }
      const written = admission.charge(waitingBatchBytes(batch), later.then(write));
      // Each command of the batch would need an answer of its own.
      admission.wait(written, (error) => {
        session.ends = true;
        answer(context.failed(error));
      });
      return written;
    }

    /** Runs a command, or what `EXEC` runs. @param bytes of the command */
    function run(name: string, args: readonly string[], bytes: Buffer): Promise<void> | undefined {
      let value: Value | Promise<Value>;
      try {
        const taken = transaction.take(name, args, bytes, session);
        if (taken !== undefined && 'run' in taken) {
          writeArrayHead((out ??= pool.take()), taken.count);
          replayed = taken.run;
          return undefined;
        }
        value = taken?.answer ?? commands.run(name, args, session);
        if (value instanceof Promise) admission.requirePlace();
      } catch (error) {
        if (!(error instanceof TokenringError)) throw error;
        value = error;
      }
      if (!(value instanceof Promise)) {
        answer(value);
        return undefined;
      }
      counters.inFlight += 1;
      const answered = value.then((settled) => {
        counters.inFlight -= 1;
        answer(settled);
      });
      admission.wait(answered, (error) => answer(context.failed(error)));
      return answered;
    }

    function pause(): void {
      busy = true;
      send();
      socket.pause();
    }

    /** @param commands commands that may run before others have their turn */
    function goOn(commands = 0): void {
      busy = false;
      sinceMs = elapsedMs();
      proceed(commands);
    }

    function wait(later: Promise<void>): void {
      pause();
      // Its failure is answered already.
      later.then(
        () => goOn(),
        () => goOn(),
      );
    }

    function waitForTurn(lane: 'decision' | 'other'): void {
      pause();
      turns.later(lane, () => {
        if (!socket.destroyed) goOn(COMMANDS_A_STEP);
      });
    }

    /** @returns whether the connection must wait before it reads on */
    function mustWait(): boolean {
      if (out !== undefined && out.size >= MAX_OUTPUT_BYTES) send();
      if (socket.writableNeedDrain) wait(new Promise((resolve) => void socket.once('drain', resolve)));
      return busy;
    }

    /** Answers one command, or several questions. @returns how it goes on */
    function step(read: Read, bytes: Buffer): 'next' | 'wait' | 'stop' {
      switch (read.kind) {
        case 'incomplete':
          needed = read.needed;
          return 'stop';
        case 'broken':
          answer(new ErrorText(`ERR Protocol error: ${read.text}`));
          counters.countProblem('invalid_request');
          session.ends = true;
          return 'next';
        case 'refused':
          answer(read.error);
          transaction.fail();
          return 'next';
        case 'questions':
        case 'command': {
          // A browser that is led here sends lines of HTTP, with commands in its body.
          if (read.kind === 'command' && read.isLine && !commands.has(read.name)) session.ends = true;
          const later = read.kind === 'questions' ? decide(read) : run(read.name, read.args, bytes);
          if (later === undefined) return 'next';
          wait(later);
          return 'wait';
        }
      }
    }

    /** @param granted commands that may run although others wait */
    function proceed(granted: number): void {
      let at = 0;
      let left = granted;
      while (at < input.length && !session.ends && !mustWait()) {
        const read = reader.read(input, at, transaction.isOpen);
        if (read.kind === 'command' && left <= 0) {
          // It is read again in its turn.
          if (!turns.mayWork()) {
            waitForTurn(read.name === 'TR.SETTLE' ? 'decision' : 'other');
            break;
          }
          left = COMMANDS_A_STEP;
        }
        const bytes = input.subarray(at, reader.endAt);
        at = reader.endAt;
        // The rest of the input must be there before a command that waits goes on.
        if (step(read, bytes) !== 'next') break;
        if (replayed.length > 0) {
          input = joined(replayed, input.subarray(at));
          replayed = NO_BYTES;
          at = 0;
        }
        left -= read.kind === 'questions' ? read.general : 1;
        // Questions in a form that is new are read as slowly as commands.
        if (read.kind === 'questions' && left < 0 && at < input.length && !turns.mayWork()) {
          waitForTurn('decision');
          break;
        }
      }
      if (at > 0) sinceMs = elapsedMs();
      keep(at);
      if (busy || socket.destroyed) return;
      if (session.ends || ((halfClosed || isDraining()) && input.length === 0)) return end();
      send();
      if (halfClosed) return end();
      if (socket.writableNeedDrain) wait(new Promise((resolve) => void socket.once('drain', resolve)));
      else socket.resume();
    }

    /** Keeps the input that is not answered, in memory of its own. */
    function keep(from: number): void {
      held.release();
      const rest = input.length - from;
      input = rest === 0 ? NO_BYTES : from === 0 ? input : joined(NO_BYTES, input.subarray(from));
      const kept = rest + transaction.bytes;
      if (kept > 0 && !held.add(kept)) {
        counters.countProblem('overloaded');
        socket.destroy();
      }
    }

    function received(chunk: Buffer): void {
      if (socket.writableEnded) return;
      if (input.length === 0) sinceMs = elapsedMs();
      input = input.length === 0 ? chunk : joined(input, chunk);
      if (busy) {
        socket.pause();
        keep(0);
      } else if (input.length < needed) keep(0);
      else {
        needed = 1;
        proceed(0);
      }
    }

    socket.on('data', received);
    socket.on('finish', () => (sinceMs = elapsedMs()));
    socket.on('error', () => void socket.destroy());
    socket.on('end', () => {
      halfClosed = true;
      if (!busy) end();
    });
    socket.on('close', () => {
      input = NO_BYTES;
      held.release();
    });
    return {
      state() {
        if (socket.writableFinished) return 'ended';
        if (busy || socket.writableEnded) return 'busy';
        return input.length > 0 || transaction.isOpen ? 'arriving' : 'idle';
      },
      sinceMs: () => sinceMs,
      unreadBytes: () => 0,
      end(reason) {
        if (reason !== 'draining') socket.destroy();
        else if (this.state() === 'idle') end();
      },
    };
  };
}

/** Joins bytes in memory of their own, which pins no other. */
function joined(first: Buffer, second: Buffer): Buffer {
  const bytes = Buffer.allocUnsafeSlow(first.length + second.length);
  first.copy(bytes);
  second.copy(bytes, first.length);
  return bytes;
}
