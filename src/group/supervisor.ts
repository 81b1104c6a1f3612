import cluster from 'node:cluster';
import type { Worker } from 'node:cluster';
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';
import type { Log } from '../cluster/ports.js';
import type { NodeId } from '../core/ring.js';
import type { Settings } from '../setting-table.js';
import { restartDelayMs } from './backoff.js';
import { createGroupFigures } from './stats.js';
import type { FromWorker, ToWorker } from './protocol.js';

/** A worker that has not drained by then, which takes 5 s at most, hangs: the others have 2 s to close, and wait for it no longer. */
const DRAINED_WITHIN_MS = 5_500;
/** A worker that has said nothing for so many suspicion times hangs: others have called it dead by then. */
const HANGS_AFTER = 10;
/** A worker that does not send its figures by then is left out: those that it sent before count. */
const COLLECT_WITHIN_MS = 1_000;

interface GroupOptions {
  /** The program of a worker. */
  readonly exec: string;
  /** The public port is a number: all workers listen there. */
  readonly settings: Settings;
  readonly log: Log;
}

/** Several ring members in processes of their own, behind one public port. */
export interface Group {
  /** Resolves with the id of the first when all are in the ring for the first time; rejects with what a worker says when it cannot start. */
  readonly started: Promise<NodeId>;
  /** Stops all together: they hand over what they hold, leave, and end. Resolves when the last has ended. */
  stop(): Promise<void>;
  /** Ends all at once. */
  kill(): void;
}

interface Slot {
  readonly index: number;
  worker: Worker | undefined;
  /** Where it listened last: so it comes back as the same member. */
  peerPort: number;
  id: NodeId | undefined;
  hears: boolean;
  /** Suspicion times since it was last heard. Counted, so that a pause of the whole group is none of the worker's. */
  silences: number;
  up: boolean;
  drained: boolean;
  /** How often it has called for the others while it leaves. */
  round: number;
  startedAtMs: number;
  delayMs: number;
  timer: NodeJS.Timeout | undefined;
}

export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure';
}

/** Starts the workers, keeps them running, and answers for all of them. */
export function startGroup({ exec, settings, log }: GroupOptions): Group {
  const slots = Array.from({ length: settings.workers }, (_, index): Slot => ({
    index,
    worker: undefined,
    peerPort: settings.peerPort === 0 ? 0 : settings.peerPort + index,
    id: undefined,
    hears: false,
    silences: 0,
    up: false,
    drained: false,
    round: 0,
    startedAtMs: 0,
    delayMs: 0,
    timer: undefined,
  }));
  let begun = false;
  let whole = false;
  let stopping = false;
  let closing = false;
  let restarts = 0;
  let allEnded: () => void = () => undefined;
  let start: (id: NodeId) => void = () => undefined;
  let fail: (error: Error) => void = () => undefined;
  const started = new Promise<NodeId>((resolve, reject) => ([start, fail] = [resolve, reject]));
  const collections = new Map<number, (index: number) => void>();
  let collected = 0;

  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  new Gauge({
    name: 'tokenring_workers',
    help: 'Workers of this group that are in the ring and answer',
    registers,
    collect() {
      this.set(slots.filter(({ up }) => up).length);
    },
  });
  new Counter({
    name: 'tokenring_worker_restarts_total',
    help: 'Workers of this group that ended unasked',
    registers,
    collect() {
      this.reset();
      this.inc(restarts);
    },
  });
  const figures = createGroupFigures(() => registry.getMetricsAsJSON());

  // `advanced`, as figures may be NaN, of which JSON makes null.
  cluster.setupPrimary({ exec, args: [], serialization: 'advanced' });

  const living = (): Slot[] => slots.filter(({ worker }) => worker !== undefined);
  const tell = ({ worker, hears }: Slot, message: ToWorker): void => {
    // Whoever is gone will be noticed by its end.
    if (hears && worker?.isConnected() === true) worker.send(message, () => undefined);
  };

  function run(slot: Slot): void {
    slot.timer = undefined;
    slot.startedAtMs = performance.now();
    const worker = cluster.fork();
    slot.worker = worker;
    worker.on('message', (message: FromWorker) => {
      if (slot.worker !== worker) return;
      slot.silences = 0;
      heard(slot, message);
    });
    // Of one that runs, its end follows; one that could not be started has none.
    worker.on('error', (error) => (worker.process.pid === undefined ? ended(slot, worker, error.message) : undefined));
    worker.on('exit', (code, signal) => ended(slot, worker, signal || code));
  }

  function settingsOf({ index, peerPort }: Slot): Settings {
    const { advertise } = settings;
    const colon = advertise?.lastIndexOf(':') ?? 0;
    const port = Number(advertise?.slice(colon + 1)) + index;
    return { ...settings, peerPort, advertise: advertise && `${advertise.slice(0, colon)}:${port}` };
  }

  function heard(slot: Slot, message: FromWorker): void {
    switch (message.kind) {
      case 'hears':
        slot.hears = true;
        return tell(slot, { kind: 'start', settings: settingsOf(slot) });
      case 'alive':
        return;
      case 'listening':
        slot.id = message.id;
        slot.peerPort = message.peerPort;
        return tellSiblings();
      case 'up':
        slot.up = true;
        return judge();
      case 'failed':
        if (!begun) return fail(new WorkerFailure(message.message));
        return log.warn({ worker: slot.index, reason: message.message }, 'a worker cannot start');
      case 'meets':
        slot.round = message.round;
        return gather();
      case 'drained':
        slot.drained = true;
        return gather();
      case 'collected':
        figures.note(slot.index, message.figures);
        return collections.get(message.request)?.(slot.index);
      case 'scrape':
        return void collect().then((text) => tell(slot, { kind: 'metrics', request: message.request, text }));
    }
  }

  function tellSiblings(): void {
    const ids = slots.flatMap(({ id }) => (id === undefined ? [] : [id]));
    if (ids.length < slots.length) return;
    for (const slot of living()) tell(slot, { kind: 'siblings', ids });
  }

  /** Whether all are in the ring: then the group is ready. */
  function judge(): void {
    const now = !stopping && slots.every(({ up }) => up);
    // Also to those who have come since.
    for (const slot of living()) tell(slot, { kind: 'whole', whole: now });
    if (now === whole) return;
    whole = now;
    if (!whole || begun) return;
    begun = true;
    start(slots[0]!.id!);
  }

  function ended(slot: Slot, worker: Worker, by: number | string): void {
    if (slot.worker !== worker) return;
    slot.worker = undefined;
    slot.hears = false;
    slot.up = false;
    figures.ended(slot.index);
    for (const done of collections.values()) done(slot.index);
    judge();
    if (stopping) {
      gather();
      if (living().length === 0) allEnded();
      return;
    }
    restarts += 1;
    slot.delayMs = restartDelayMs(slot.delayMs, performance.now() - slot.startedAtMs);
    log.warn({ worker: slot.index, by, restartInMs: slot.delayMs }, 'a worker ended, and is started again');
    slot.timer = setTimeout(() => run(slot), slot.delayMs);
  }

  /** While they stop: lets those go on that wait for the others. */
  function gather(): void {
    const leavers = living().filter(({ up }) => up);
    // Who has drained has left, or had nobody to hand over to, and will not call again.
    const waiting = leavers.filter(({ drained }) => !drained);
    const round = Math.min(...waiting.map((slot) => slot.round));
    if (waiting.length > 0 && round > 0) {
      const ids = slots.filter((slot) => slot.round >= round).map(({ id }) => id!);
      for (const slot of waiting) if (slot.round === round) tell(slot, { kind: 'met', round, ids });
    }
    if (waiting.length > 0 || closing) return;
    closing = true;
    for (const slot of leavers) tell(slot, { kind: 'close' });
  }

  async function collect(): Promise<string> {
    const request = (collected += 1);
    const missing = new Set(living().map(({ index }) => index));
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, COLLECT_WITHIN_MS);
      const done = (index: number): void => {
        missing.delete(index);
        if (missing.size > 0) return;
        clearTimeout(timer);
        resolve();
      };
      collections.set(request, done);
      for (const slot of living()) tell(slot, { kind: 'collect', request });
    });
    collections.delete(request);
    return figures.text();
  }

  function killHanging(): void {
    for (const slot of living()) {
      if (!slot.hears || (slot.silences += 1) < HANGS_AFTER) continue;
      log.warn({ worker: slot.index, node: slot.id }, 'a worker hangs, and is killed');
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
      judge();
      const ids = slots.flatMap(({ id, up }) => (up && id !== undefined ? [id] : []));
      for (const slot of living()) {
        if (slot.hears) tell(slot, { kind: 'stop', ids });
        else slot.worker?.process.kill('SIGKILL');
      }
      const impatient = setTimeout(() => {
        for (const slot of living()) if (!slot.drained) slot.worker?.process.kill('SIGKILL');
      }, DRAINED_WITHIN_MS);
      if (living().length > 0) await over;
      clearTimeout(impatient);
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
