import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import type { Socket } from 'node:net';
import type { Log } from '../../lib/log.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { Settings } from '../settings/setting-table.js';
import { createBackoff } from './backoff.js';
import type { Backoff } from './backoff.js';
import { createConnectionSpreader } from './connection-spreader.js';
import { createGroupMetrics } from './group-metrics.js';
import type { Protocol, FromWorker, ToWorker, WorkerPorts } from './protocol.js';

/**
 * Time to drain, which takes 5 s at most. A worker that has not drained by then hangs, and is killed.
 * The others have 2 s left to close.
 */
const DRAIN_TIMEOUT_MS = 5_500;
/** Silence, in suspicion times, after which a worker counts as hanging. Others have declared it dead by then. */
const HANGS_AFTER = 10;

interface GroupOptions {
  /** Path of the worker program. */
  readonly exec: string;
  /** Options of Node.js for the workers, beside those of this process. */
  readonly execArgv: readonly string[];
  /** All workers listen on its public port, which is not 0. Its `workerPort` is that of the first worker, or 0. */
  readonly settings: Settings;
  /** Returns the Unix socket of a worker, by which the others reach it. Without one, they use TCP. */
  readonly socketPathOf: (worker: number) => string | undefined;
  /**
   * Listens on the public ports for all workers. Without it, each of them listens there, and the kernel spreads the
   * connections.
   * @param take is given each connection, paused
   */
  readonly openPorts: ((take: (socket: Socket, protocol: Protocol) => void) => Promise<{ close(): void }>) | undefined;
  readonly log: Log;
  /** Lines of this log that were lost so far. */
  readonly droppedLogLines: () => number;
}

/** Several ring members, each a process, behind one public port. */
export interface Group {
  /**
   * Resolves with the id of the first worker when all are in the ring for the first time. Rejects with a WorkerFailure
   * when one cannot start.
   */
  readonly started: Promise<NodeId>;
  /** Stops all workers together: they hand off their clients, leave, and end. Resolves when the last has ended. */
  stop(): Promise<void>;
  /** Kills all workers at once. */
  kill(): void;
}

interface Slot {
  readonly index: number;
  worker: Worker | undefined;
  /** The last ports of this worker. A restarted worker uses them again, so it is the same member. */
  ports: WorkerPorts;
  id: NodeId | undefined;
  connected: boolean;
  /**
   * Suspicion times since its last message. It is a count, so that a pause of the whole group does not count against
   * the worker.
   */
  silences: number;
  up: boolean;
  drained: boolean;
  /** The last round of the barrier that the worker has reached while it leaves. */
  round: number;
  readonly backoff: Backoff;
  timer: NodeJS.Timeout | undefined;
}

export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure';
}

/** Starts the workers, and restarts those that end without being stopped. */
export function startGroup({
  exec,
  execArgv,
  settings,
  socketPathOf,
  openPorts,
  log,
  droppedLogLines,
}: GroupOptions): Group {
  const slots = Array.from({ length: settings.workers }, (_, index) => emptySlot(index, settings));
  let begun = false;
  let whole = false;
  let stopping = false;
  let closing = false;
  let restarts = 0;
  let allEnded: () => void = () => undefined;
  let start: (id: NodeId) => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const started = new Promise<NodeId>((resolve, reject) => ([start, fail] = [resolve, reject]));
  const metrics = createGroupMetrics({
    running: () => running().map(({ index }) => index),
    askToCollect: (worker, request) => send(slots[worker]!, { kind: 'collect', request }),
    workersUp: () => slots.filter(({ up }) => up).length,
    restarts: () => restarts,
    droppedLogLines,
  });

  const protocols = new WeakMap<Socket, Protocol>();
  const spreader = createConnectionSpreader({
    hand: (worker, number, socket) =>
      send(slots[worker]!, { kind: 'connection', number, protocol: protocols.get(socket) ?? 'http' }, socket),
  });
  const spread = (socket: Socket, protocol: Protocol): void => {
    protocols.set(socket, protocol);
    spreader.add(socket);
  };
  let ports: Promise<{ close(): void } | undefined> | undefined;

  // `advanced` keeps NaN in metrics, which JSON turns into null.
  cluster.setupPrimary({
    exec,
    args: [],
    execArgv: [...process.execArgv, ...execArgv],
    serialization: 'advanced',
  });

  const running = (): Slot[] => slots.filter(({ worker }) => worker !== undefined);
  const send = ({ worker, connected }: Slot, message: ToWorker, socket?: Socket): void => {
    // The worker's exit event follows a failure to send.
    if (connected && worker?.isConnected() === true) worker.send(message, socket, { keepOpen: true }, () => undefined);
  };

  function run(slot: Slot): void {
    slot.timer = undefined;
    const endRun = slot.backoff.begin();
    const worker = cluster.fork();
    const onEnd = (by: number | string): void => ended(slot, worker, by, endRun);
    slot.worker = worker;
    worker.on('message', (message: FromWorker) => {
      if (slot.worker !== worker) return;
      slot.silences = 0;
      receive(slot, message);
    });
    // A process that could not be started has no exit event.
    worker.on('error', (error) => (worker.process.pid === undefined ? onEnd(error.message) : undefined));
    worker.on('exit', (code, signal) => onEnd(signal || code));
  }

  function receive(slot: Slot, message: FromWorker): void {
    switch (message.kind) {
      case 'connected':
        slot.connected = true;
        return send(slot, {
          kind: 'start',
          settings: settingsOf(slot, settings),
          socketPath: socketPathOf(slot.index),
        });
      case 'alive':
        return;
      case 'listening':
        slot.id = message.id;
        slot.ports = message.ports;
        return sendSiblings();
      case 'up':
        slot.up = true;
        spreader.joins(slot.index);
        ports ??= Promise.resolve(openPorts?.(spread));
        ports.catch(fail);
        return checkWhole();
      case 'taken':
        return spreader.taken(slot.index, message.number);
      case 'returned':
        return spreader.returned(slot.index, message.number);
      case 'closing':
        spreader.leaves(slot.index);
        return closePorts();
      case 'failed':
        if (!begun) return fail(new WorkerFailure(`worker ${slot.index}: ${message.message}`));
        return log.warn({ worker: slot.index, reason: message.message }, 'worker cannot start');
      case 'at-barrier':
        slot.round = message.round;
        return checkBarrier();
      case 'drained':
        slot.drained = true;
        return checkBarrier();
      case 'collected':
        return metrics.collected(slot.index, message.request, message.stats);
      case 'scrape':
        return void metrics.scrape().then((text) => send(slot, { kind: 'metrics', request: message.request, text }));
    }
  }

  function sendSiblings(): void {
    const siblings = slots.flatMap(({ id, index }) =>
      id === undefined ? [] : [{ id, socketPath: socketPathOf(index) }],
    );
    if (siblings.length < slots.length) return;
    for (const slot of running()) send(slot, { kind: 'siblings', siblings });
  }

  /** Tells the workers whether all of them are in the ring. The group is ready the first time that they are. */
  function checkWhole(): void {
    const now = !stopping && slots.every(({ up }) => up);
    // This is sent even without a change: a restarted worker does not know it yet.
    for (const slot of running()) send(slot, { kind: 'whole', whole: now });
    if (now === whole) return;
    whole = now;
    if (!whole || begun) return;
    begun = true;
    void ports!.then(() => start(slots[0]!.id!), fail);
  }

  /** During the stop, closes the public ports once no worker takes connections. */
  function closePorts(): void {
    if (spreader.hasTakers()) return;
    spreader.close();
    void ports?.then((listener) => listener?.close(), fail);
  }

  function ended(slot: Slot, worker: Worker, by: number | string, endRun: () => number): void {
    if (slot.worker !== worker) return;
    slot.worker = undefined;
    slot.connected = false;
    slot.up = false;
    metrics.ended(slot.index);
    spreader.ended(slot.index);
    checkWhole();
    if (stopping) {
      closePorts();
      checkBarrier();
      if (running().length === 0) allEnded();
      return;
    }
    restarts += 1;
    const restartInMs = endRun();
    log.warn({ worker: slot.index, by, restartInMs }, 'worker ended; restarting it');
    slot.timer = setTimeout(() => run(slot), restartInMs);
  }

  /** During the stop, lets workers pass a barrier that all have reached, and close once all have drained. */
  function checkBarrier(): void {
    const leavers = running().filter(({ up }) => up);
    // A drained worker has left, or had no member to hand off to, and reaches no further barrier.
    const waiting = leavers.filter(({ drained }) => !drained);
    const round = Math.min(...waiting.map((slot) => slot.round));
    if (waiting.length > 0 && round > 0) {
      const ids = slots.filter((slot) => slot.round >= round).map(({ id }) => id!);
      for (const slot of waiting) if (slot.round === round) send(slot, { kind: 'barrier-passed', round, ids });
    }
    if (waiting.length > 0 || closing) return;
    closing = true;
    for (const slot of leavers) send(slot, { kind: 'close' });
  }

  function killHanging(): void {
    for (const slot of running()) {
      if (!slot.connected || (slot.silences += 1) < HANGS_AFTER) continue;
      log.warn({ worker: slot.index, node: slot.id }, 'worker hangs; killing it');
      slot.worker?.process.kill('SIGKILL');
    }
  }

  for (const slot of slots) run(slot);
  setInterval(killHanging, settings.suspectAfterMs).unref();

  return {
    started,
    async stop() {
      stopping = true;
      const over = new Promise<void>((resolve) => (allEnded = resolve));
      for (const { timer } of slots) clearTimeout(timer);
      checkWhole();
      const ids = slots.flatMap(({ id, up }) => (up && id !== undefined ? [id] : []));
      for (const slot of running()) {
        if (slot.connected) send(slot, { kind: 'stop', ids });
        else slot.worker?.process.kill('SIGKILL');
      }
      const timeout = setTimeout(() => {
        for (const slot of running()) if (!slot.drained) slot.worker?.process.kill('SIGKILL');
      }, DRAIN_TIMEOUT_MS);
      if (running().length > 0) await over;
      clearTimeout(timeout);
    },
    kill() {
      stopping = true;
      for (const slot of slots) {
        clearTimeout(slot.timer);
        slot.worker?.process.kill('SIGKILL');
      }
    },
  };
}

function emptySlot(index: number, { peerPort, workerPort }: Settings): Slot {
  const next = (first: number): number => (first === 0 ? 0 : first + index);
  return {
    index,
    worker: undefined,
    ports: { peerPort: next(peerPort), workerPort: workerPort === 'none' ? 'none' : next(workerPort ?? 0) },
    id: undefined,
    connected: false,
    silences: 0,
    up: false,
    drained: false,
    round: 0,
    backoff: createBackoff(() => performance.now()),
    timer: undefined,
  };
}

/** Returns the group's settings with the ports of one worker. */
function settingsOf({ index, ports }: Slot, settings: Settings): Settings {
  const { advertise } = settings;
  const colon = advertise?.lastIndexOf(':') ?? 0;
  const port = Number(advertise?.slice(colon + 1)) + index;
  return { ...settings, ...ports, advertise: advertise && `${advertise.slice(0, colon)}:${port}` };
}
