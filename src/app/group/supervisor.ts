import cluster, { type Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Log } from '../../lib/system.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Settings } from '../settings/setting-table.js';
import { Backoff } from './backoff.js';
import { ConnectionSpreader } from './connection-spreader.js';
import { GroupMetrics } from './group-metrics.js';
import type { FromWorker, Protocol, ToWorker, WorkerPorts } from './protocol.js';

/**
 * Time to drain, which takes 5 s at most. A worker that has not drained by then hangs, and is killed.
 * The others have 2 s left to close.
 */
const DRAIN_TIMEOUT_MS = 5_500;
/** Silence, in suspicion times, after which a worker counts as hanging. Others have declared it dead by then. */
const HANGS_AFTER = 10;

export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure';
}

/** The place of one worker in its group. */
class Slot {
  worker: Worker | undefined;
  /** The last ports of this worker. A restarted worker uses them again, so it is the same member. */
  ports: WorkerPorts;
  id: NodeId | undefined;
  connected = false;
  /**
   * Suspicion times since its last message. It is a count, so that a pause of the whole group does not count against
   * the worker.
   */
  silences = 0;
  up = false;
  drained = false;
  /** The last round of the barrier that the worker has reached while it leaves. */
  round = 0;
  readonly backoff = new Backoff(() => performance.now());
  timer: NodeJS.Timeout | undefined;

  constructor(
    readonly index: number,
    { peerPort, workerPort }: Settings,
  ) {
    const next = (first: number): number => (first === 0 ? 0 : first + index);
    this.ports = { peerPort: next(peerPort), workerPort: workerPort === 'none' ? 'none' : next(workerPort ?? 0) };
  }

  send(message: ToWorker, socket?: Socket): void {
    const { worker } = this;
    // The worker's exit event follows a failure to send.
    if (this.connected && worker?.isConnected() === true)
      worker.send(message, socket, { keepOpen: true }, () => undefined);
  }

  kill(): void {
    this.worker?.process.kill('SIGKILL');
  }

  /** Returns the group's settings with the ports of this worker. */
  settingsOf(settings: Settings): Settings {
    const { advertise } = settings;
    const colon = advertise?.lastIndexOf(':') ?? 0;
    const port = Number(advertise?.slice(colon + 1)) + this.index;
    return { ...settings, ...this.ports, advertise: advertise && `${advertise.slice(0, colon)}:${port}` };
  }
}

/** Several ring members, each a process, behind one public port. Restarts workers that end without being stopped. */
export class WorkerGroup {
  /**
   * Resolves with the id of the first worker when all are in the ring for the first time. Rejects with a WorkerFailure
   * when one cannot start.
   */
  readonly started: Promise<NodeId>;
  private readonly settings: Settings;
  private readonly socketPathOf: (worker: number) => string | undefined;
  private readonly openPorts: OpenPorts | undefined;
  private readonly log: Log;
  private readonly slots: readonly Slot[];
  private readonly metrics: GroupMetrics;
  private readonly spreader = new ConnectionSpreader((worker, number, { socket, protocol }) =>
    this.slots[worker]!.send({ kind: 'connection', number, protocol }, socket),
  );
  private ports: Promise<{ close(): void } | undefined> | undefined;
  /** Whether the group has been ready. */
  private begun = false;
  private whole = false;
  private stopping = false;
  private closing = false;
  private restarts = 0;
  private allEnded: () => void = () => undefined;
  private start: (id: NodeId) => void = () => undefined;
  private fail: (error: Error) => void = () => undefined;

  /** Starts the workers. */
  constructor(options: {
    /** Path of the worker program. */
    readonly exec: string;
    /** Options of Node.js for the workers, beside those of this process. */
    readonly execArgv: readonly string[];
    /** All workers listen on its public port, which is not 0. Its `workerPort` is that of the first worker, or 0. */
    readonly settings: Settings;
    /** Returns the Unix socket of a worker, by which the others reach it. Without one, they use TCP. */
    readonly socketPathOf: (worker: number) => string | undefined;
    /** Without it, each worker listens on the public ports, and the kernel spreads the connections. */
    readonly openPorts: OpenPorts | undefined;
    readonly log: Log;
    /** Lines of this log that were lost so far. */
    readonly droppedLogLines: () => number;
  }) {
    const { exec, execArgv, settings, droppedLogLines } = options;
    this.settings = settings;
    this.socketPathOf = options.socketPathOf;
    this.openPorts = options.openPorts;
    this.log = options.log;
    this.started = new Promise<NodeId>((resolve, reject) => ([this.start, this.fail] = [resolve, reject]));
    this.slots = Array.from({ length: settings.workers }, (_, index) => new Slot(index, settings));
    this.metrics = new GroupMetrics(
      () => ({
        workersUp: this.slots.filter(({ up }) => up).length,
        restarts: this.restarts,
        droppedLogLines: droppedLogLines(),
      }),
      () => this.running().map(({ index }) => index),
      (worker, request) => this.slots[worker]!.send({ kind: 'collect', request }),
    );
    // `advanced` keeps NaN in metrics, which JSON turns into null.
    const nodeOptions = [...process.execArgv, ...execArgv];
    cluster.setupPrimary({ exec, args: [], execArgv: nodeOptions, serialization: 'advanced' });
    for (const slot of this.slots) this.run(slot);
    setInterval(() => this.killHanging(), settings.suspectAfterMs).unref();
  }

  /** Stops all workers together: they hand off their clients, leave, and end. Resolves when the last has ended. */
  async stop(): Promise<void> {
    this.stopping = true;
    const over = new Promise<void>((resolve) => (this.allEnded = resolve));
    for (const { timer } of this.slots) clearTimeout(timer);
    this.checkWhole();
    const ids = this.slots.flatMap(({ id, up }) => (up && id !== undefined ? [id] : []));
    for (const slot of this.running()) {
      if (slot.connected) slot.send({ kind: 'stop', ids });
      else slot.kill();
    }
    const timeout = setTimeout(() => {
      for (const slot of this.running()) if (!slot.drained) slot.kill();
    }, DRAIN_TIMEOUT_MS);
    if (this.running().length > 0) await over;
    clearTimeout(timeout);
  }

  /** Kills all workers at once. */
  kill(): void {
    this.stopping = true;
    for (const slot of this.slots) {
      clearTimeout(slot.timer);
      slot.kill();
    }
  }

  private running(): Slot[] {
    return this.slots.filter(({ worker }) => worker !== undefined);
  }

  private run(slot: Slot): void {
    slot.timer = undefined;
    slot.backoff.begins();
    const worker = cluster.fork();
    slot.worker = worker;
    worker.on('message', (message: FromWorker) => {
      if (slot.worker !== worker) return;
      slot.silences = 0;
      this.receive(slot, message);
    });
    const onEnd = (by: number | string): void => this.ended(slot, worker, by);
    // A process that could not be started has no exit event.
    worker.on('error', (error) => (worker.process.pid === undefined ? onEnd(error.message) : undefined));
    worker.on('exit', (code, signal) => onEnd(signal || code));
  }

  private receive(slot: Slot, message: FromWorker): void {
    const { index } = slot;
    switch (message.kind) {
      case 'connected':
        slot.connected = true;
        return slot.send({
          kind: 'start',
          settings: slot.settingsOf(this.settings),
          socketPath: this.socketPathOf(index),
        });
      case 'alive':
        return;
      case 'listening':
        slot.id = message.id;
        slot.ports = message.ports;
        return this.sendSiblings();
      case 'up':
        slot.up = true;
        this.spreader.joins(index);
        this.ports ??= Promise.resolve(this.openPorts?.((socket, protocol) => this.spreader.add({ socket, protocol })));
        this.ports.catch(this.fail);
        return this.checkWhole();
      case 'taken':
        return this.spreader.taken(index, message.number);
      case 'returned':
        return this.spreader.returned(index, message.number);
      case 'closing':
        this.spreader.leaves(index);
        return this.closePorts();
      case 'failed':
        if (!this.begun) return this.fail(new WorkerFailure(`worker ${index}: ${message.message}`));
        return this.log.warn({ worker: index, reason: message.message }, 'worker cannot start');
      case 'at-barrier':
        slot.round = message.round;
        return this.checkBarrier();
      case 'drained':
        slot.drained = true;
        return this.checkBarrier();
      case 'collected':
        return this.metrics.collected(index, message.request, message.stats);
      case 'scrape': {
        const { request } = message;
        return void this.metrics.scrape().then((text) => slot.send({ kind: 'metrics', request, text }));
      }
    }
  }

  private sendSiblings(): void {
    const siblings = this.slots.flatMap(({ id, index }) =>
      id === undefined ? [] : [{ id, socketPath: this.socketPathOf(index) }],
    );
    if (siblings.length < this.slots.length) return;
    for (const slot of this.running()) slot.send({ kind: 'siblings', siblings });
  }

  /** Tells the workers whether all of them are in the ring. The group is ready the first time that they are. */
  private checkWhole(): void {
    const now = !this.stopping && this.slots.every(({ up }) => up);
    // This is sent even without a change: a restarted worker does not know it yet.
    for (const slot of this.running()) slot.send({ kind: 'whole', whole: now });
    if (now === this.whole) return;
    this.whole = now;
    if (!now || this.begun) return;
    this.begun = true;
    void this.ports!.then(() => this.start(this.slots[0]!.id!), this.fail);
  }

  /** During the stop, closes the public ports once no worker takes connections. */
  private closePorts(): void {
    if (this.spreader.hasTakers()) return;
    this.spreader.close();
    void this.ports?.then((listener) => listener?.close(), this.fail);
  }

  private ended(slot: Slot, worker: Worker, by: number | string): void {
    if (slot.worker !== worker) return;
    slot.worker = undefined;
    slot.connected = false;
    slot.up = false;
    this.metrics.ended(slot.index);
    this.spreader.ended(slot.index);
    this.checkWhole();
    if (this.stopping) {
      this.closePorts();
      this.checkBarrier();
      if (this.running().length === 0) this.allEnded();
      return;
    }
    this.restarts += 1;
    const restartInMs = slot.backoff.ended();
    this.log.warn({ worker: slot.index, by, restartInMs }, 'worker ended; restarting it');
    slot.timer = setTimeout(() => this.run(slot), restartInMs);
  }

  /** During the stop, lets workers pass a barrier that all have reached, and close once all have drained. */
  private checkBarrier(): void {
    const leavers = this.running().filter(({ up }) => up);
    // A drained worker has left, or had no member to hand off to, and reaches no further barrier.
    const waiting = leavers.filter(({ drained }) => !drained);
    const round = Math.min(...waiting.map((slot) => slot.round));
    if (waiting.length > 0 && round > 0) {
      const ids = this.slots.filter((slot) => slot.round >= round).map(({ id }) => id!);
      for (const slot of waiting) if (slot.round === round) slot.send({ kind: 'barrier-passed', round, ids });
    }
    if (waiting.length > 0 || this.closing) return;
    this.closing = true;
    for (const slot of leavers) slot.send({ kind: 'close' });
  }

  private killHanging(): void {
    for (const slot of this.running()) {
      if (!slot.connected || (slot.silences += 1) < HANGS_AFTER) continue;
      this.log.warn({ worker: slot.index, node: slot.id }, 'worker hangs; killing it');
      slot.kill();
    }
  }
}

/** Listens on the public ports for all workers, and passes each connection, paused, to `take`. */
type OpenPorts = (take: (socket: Socket, protocol: Protocol) => void) => Promise<{ close(): void }>;
