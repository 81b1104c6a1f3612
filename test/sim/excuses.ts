import type { NodeId } from '../../src/limits/ring/ring.js';
import type { Fault, History, Setting } from './history.js';
import type { Take } from './takes.js';

/** What the faults of a run justify. */
export interface Excuses {
  /** When the first fault began that was not planned, or Infinity: before it all figures must be exact. */
  readonly firstMs: number;
  /**
   * Tokens that a span may see above the bound.
   * @param takes the takes of the bucket in that span
   */
  allowance(takes: readonly Take[], fromMs: number, toMs: number, bucket: Size, without?: Fault): number;
  /** Whether what was done by `sinceMs` may be unknown to who decides at `untilMs`, or only to some. */
  mayForget(sinceMs: number, untilMs: number): boolean;
  /** Those that split the cluster, and how long each took to mend. */
  readonly splits: readonly Split[];
}

export interface Split {
  readonly fault: Fault;
  readonly sides: readonly (readonly NodeId[])[];
  readonly fromMs: number;
  readonly toMs: number;
  readonly mendedMs: number;
}

/** The largest capacity that a bucket had, and its fastest refill. */
export interface Size {
  readonly capacity: number;
  readonly perMs: number;
}

/** A node silent for less is not stood in for: half the suspicion time, less what a heartbeat may come late. */
const NOTICED = 0.28;
/** A node that was frozen for less finds no pause, as it beats ten times in a suspicion time: 0.3 less a beat. */
const PAUSED = 0.2;
/** A node silent for less is not stood in for, whatever heartbeats do. */
const STOOD_IN = 0.4;
/** Between two heartbeats, in suspicion times. */
const BEAT = 0.1;
/** Of the capacity, so much is lent at most. */
export const LENT = 0.5;
/** Stands for the node that decided, where that is not known. */
export const ANYBODY = '*';
/** In which a ring has found together again after a fault, and copies are where they belong, in suspicion times. */
export const MENDED = 2;

export function excusesOf({ faults, setting }: History): Excuses {
  const { suspectAfterMs } = setting;
  const noticedMs = suspectAfterMs * NOTICED;
  const mendMs = suspectAfterMs * MENDED;
  const unmended = (fault: Fault, atMs: number): boolean => fault.fromMs <= atMs && atMs <= fault.toMs + mendMs;

  const overlap = (a: Fault, b: Fault): boolean => unmended(a, b.fromMs) || unmended(b, a.fromMs);

  /**
   * A node that finds a pause asks all members of its ring whether they acted for it. A member that has crashed gives no
   * answer, or has forgotten what it did, and one that is frozen answers too late. So the node rejoins, which costs the
   * same as a crash. The crashed member was in its ring when it asked: it crashed so lately that the ring had not found
   * together again, or before it could answer.
   */
  function rejoins(fault: Fault): boolean {
    if (fault.kind !== 'freeze' || fault.toMs - fault.fromMs < suspectAfterMs * PAUSED) return false;
    return faults.some((other) => {
      if (other.kind === 'freeze')
        return other.node !== fault.node && other.fromMs <= fault.toMs && fault.toMs <= other.toMs;
      return (
        other.kind === 'crash' &&
        other.node !== fault.node &&
        fault.fromMs <= other.toMs + mendMs &&
        other.fromMs <= fault.toMs + suspectAfterMs
      );
    });
  }

  const beatMs = suspectAfterMs * BEAT + setting.delayMs;
  const disturbing = faults.filter(
    (fault) => disturbs(fault, noticedMs) || rejoins(fault) || lasts(fault, faults, beatMs) >= noticedMs,
  );

  /** The parts into which earlier partitions that are not mended have cut the cluster: each is cut once more. */
  function islandsBefore(fault: Fault): number {
    const earlier = disturbing.slice(0, disturbing.indexOf(fault)).filter((other) => overlap(other, fault));
    return earlier.reduce((islands, other) => islands * (other.kind === 'partition' ? other.sides.length : 1), 1);
  }

  /** Tokens that this fault may have let through once more. */
  function forgiven(fault: Fault, takes: readonly Take[], { capacity, perMs }: Size): number {
    const extraMs = fault.toMs - fault.fromMs + mendMs;
    switch (fault.kind) {
      case 'crash':
      case 'freeze': {
        const others = faults.filter(
          (other) =>
            other !== fault && unmended(other, fault.fromMs) && spoilsCopies(other) && !ofOneMachine(other, fault),
        );
        // With its machine some of the copies may be lost as well: then one elsewhere is all that there is sure to be.
        const copies = faults.some((other) => other !== fault && ofOneMachine(other, fault)) ? 1 : setting.replicas;
        const copiesLeft = others.length < copies && others.every(({ kind }) => kind === 'crash' || kind === 'freeze');
        if (others.length > 0 && !copiesLeft) return capacity;
        const alone = faults.every(
          (other) => other === fault || !overlap(other, fault) || !spoilsCopies(other) || ofOneMachine(other, fault),
        );
        return lost(fault, takes, capacity, alone);
      }
      case 'restart': {
        const sinceMs = fault.fromMs - fault.writeAgeMs;
        const lately = takes.filter(({ askedMs, answeredMs }) => askedMs <= fault.fromMs && answeredMs >= sinceMs);
        return Math.min(
          lately.reduce((sum, { cost }) => sum + cost, 0),
          capacity,
        );
      }
      case 'replaced': {
        const sinceMs = fault.fromMs - copyAgeMs(setting);
        const own = takes.filter(
          ({ by, askedMs, answeredMs }) => by === fault.node && askedMs <= fault.heardMs && answeredMs >= sinceMs,
        );
        return own.reduce((sum, { cost }) => sum + cost, 0);
      }
      case 'partition':
        return (fault.sides.length - 1) * islandsBefore(fault) * (capacity + perMs * extraMs);
      case 'one-way':
      case 'silence':
        return capacity + perMs * extraMs;
      case 'lossy':
      case 'join':
      case 'leave':
        return 0;
    }
  }

  /** What the victim took after its last copy; the one successor that acknowledged a take may have been another victim. */
  function lost(
    fault: Extract<Fault, { kind: 'crash' | 'freeze' }>,
    takes: readonly Take[],
    capacity: number,
    alone: boolean,
  ): number {
    const sinceMs = copiedUntil(fault);
    let sum = 0;
    for (const take of takes) {
      if ((take.by !== fault.node && take.by !== ANYBODY) || (take.replicated && alone)) continue;
      if (take.askedMs <= fault.fromMs && take.answeredMs >= sinceMs) sum += take.cost;
    }
    return Math.min(sum, capacity);
  }

  /**
   * When the copies of the victim were last sure to be complete. A message that is lost in a cut, however short, holds
   * back all later copies for that successor until it is given up, after a suspicion time.
   */
  function copiedUntil({ node, fromMs }: Extract<Fault, { kind: 'crash' | 'freeze' }>): number {
    const cuts = faults.filter(
      (other) => cutsOff(other, node) && other.fromMs <= fromMs && fromMs <= other.toMs + suspectAfterMs,
    );
    return Math.min(fromMs, ...cuts.map((cut) => cut.fromMs)) - copyAgeMs(setting);
  }

  function spoilsCopies(fault: Fault): boolean {
    return isPlanned(fault) || fault.kind === 'lossy' || disturbing.includes(fault);
  }

  return {
    firstMs: Math.min(
      Infinity,
      ...faults.filter((fault) => spoilsFigures(fault, suspectAfterMs)).map(({ fromMs }) => fromMs),
    ),
    allowance(takes, fromMs, toMs, size, without) {
      let sum = 0;
      for (const fault of disturbing) {
        if (fault === without || fault.fromMs > toMs || fault.toMs + mendMs < fromMs) continue;
        sum += forgiven(fault, takes, size);
      }
      if (faults.every(isPlanned)) return sum;
      // Decided by an equal share of the limit each.
      const shares = takes.reduce((total, take) => total + (take.fallback ? take.cost : 0), 0);
      return sum + Math.min(shares, size.capacity + size.perMs * (toMs - fromMs));
    },
    mayForget: (sinceMs, untilMs) =>
      disturbing.some((fault) => {
        if (fault.fromMs > untilMs || fault.toMs + mendMs < sinceMs) return false;
        if (fault.kind !== 'crash' && fault.kind !== 'freeze') return true;
        const alone = faults.every((other) => other === fault || !overlap(other, fault) || !spoilsCopies(other));
        const lately = fault.fromMs - copyAgeMs(setting) <= sinceMs && sinceMs <= fault.fromMs + setting.delayMs;
        return !alone || lately;
      }),
    splits: disturbing.flatMap((fault): Split[] => {
      const split = { fault, fromMs: fault.fromMs, toMs: fault.toMs, mendedMs: fault.toMs + mendMs };
      if (fault.kind === 'partition') return [{ ...split, sides: fault.sides }];
      return fault.kind === 'one-way' ? [{ ...split, sides: [] }] : [];
    }),
  };
}

/** Two that died with their machine: who decides next is on another, and so is a copy. */
function ofOneMachine(a: Fault, b: Fault): boolean {
  if (a.kind !== 'crash' || b.kind !== 'crash') return false;
  return a.machine !== undefined && a.machine === b.machine && a.fromMs === b.fromMs;
}

/** Whether answers may be other than exact: somebody else may have decided, or a request may have been charged twice. */
function spoilsFigures(fault: Fault, suspectAfterMs: number): boolean {
  if (fault.kind === 'lossy') return fault.broken;
  if (fault.kind === 'silence') return fault.toMs - fault.fromMs >= suspectAfterMs * STOOD_IN;
  return !isPlanned(fault);
}

export function isPlanned({ kind }: Fault): boolean {
  return kind === 'join' || kind === 'leave';
}

/** Whether nothing that `from` sends gets to `to`. */
function silences(fault: Fault, from: NodeId, to: NodeId): boolean {
  switch (fault.kind) {
    case 'partition':
      return fault.sides.some((side) => side.includes(from)) && !fault.sides.some((side) => isIn(side, from, to));
    case 'one-way':
      return fault.from.includes(from) && fault.to.includes(to);
    case 'silence':
      return fault.from === from && fault.to === to;
    default:
      return false;
  }
}

/** Whether messages of this node, or the answers to them, are lost. */
function cutsOff(fault: Fault, node: NodeId): boolean {
  switch (fault.kind) {
    case 'partition':
      return fault.sides.some((side) => side.includes(node));
    case 'one-way':
      return fault.from.includes(node) || fault.to.includes(node);
    case 'silence':
      return fault.from === node || fault.to === node;
    default:
      return false;
  }
}

function isIn(side: readonly NodeId[], a: NodeId, b: NodeId): boolean {
  return side.includes(a) && side.includes(b);
}

/**
 * How long two nodes did not hear each other, with the cuts before and after this one: so little time lies between them
 * that no heartbeat needs to arrive in it.
 */
function lasts(fault: Fault, faults: readonly Fault[], gapMs: number): number {
  if (fault.kind !== 'partition' && fault.kind !== 'one-way') return 0;
  const pairs =
    fault.kind === 'one-way'
      ? fault.from.flatMap((from) => fault.to.map((to) => [from, to] as const))
      : fault.sides.flat().flatMap((from) => fault.sides.flat().map((to) => [from, to] as const));
  const times = pairs
    .filter(([from, to]) => silences(fault, from, to))
    .map(([from, to]) => {
      let { fromMs, toMs } = fault;
      const others = faults.filter((other) => silences(other, from, to)).sort((a, b) => a.fromMs - b.fromMs);
      for (const other of others) if (other.fromMs <= toMs + gapMs) toMs = Math.max(toMs, other.toMs);
      for (const other of others.reverse()) if (other.toMs >= fromMs - gapMs) fromMs = Math.min(fromMs, other.fromMs);
      return toMs - fromMs;
    });
  return Math.max(0, ...times);
}

/** Whether a fault lasts long enough that somebody else decides in a node's place. */
function disturbs(fault: Fault, noticedMs: number): boolean {
  switch (fault.kind) {
    case 'crash':
    case 'restart':
    case 'replaced':
      return true;
    case 'freeze':
    case 'partition':
    case 'one-way':
    case 'silence':
      return fault.toMs - fault.fromMs >= noticedMs;
    case 'lossy':
    case 'join':
    case 'leave':
      return false;
  }
}

/**
 * How old the newest copy of a bucket may be: the interval, the message before that is waited for, and one flush; and no
 * timer fires early.
 */
export function copyAgeMs({ replicationIntervalMs, delayMs, clockError }: Setting): number {
  return (replicationIntervalMs + 3 * delayMs) * (1 + clockError) + 2;
}
