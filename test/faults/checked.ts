import { clientKey } from '../../src/limits/ring/client-hash.js';
import { createCheck } from '../../src/limits/decide/check.js';
import type { Decision } from '../../src/limits/decide/decision.js';
import type { ClientDescription } from '../../src/limits/request/description.js';
import type { NodeId } from '../../src/limits/ring/ring.js';
import { ruleOf } from '../../src/limits/bucket/rule.js';
import { check, type Violation } from '../sim/checker.js';
import type * as sim from '../sim/history.js';
import type { AskedClient } from './clients.js';
import { isDecision, type Asked, type History } from './history.js';
import { INTERVAL_MS, SUSPECT_AFTER_MS } from './pace.js';
import { figure, type Figure } from './verdict.js';

/** What real nodes were asked and did, with all that the simulator's checker wants to know. */
export interface Checked {
  readonly history: History;
  readonly clients: readonly AskedClient[];
  /** Ids of the nodes, as the history counts them. */
  readonly ids: readonly NodeId[];
  readonly faults: readonly sim.Fault[];
  readonly statements: readonly sim.Statement[];
  /** The clients that the statements are about. */
  readonly clientIds: readonly string[];
  readonly replicas: number;
  readonly endMs: number;
}

/** What a message between two processes takes at most that share two cores with all others: a flush there and back takes 150 ms. */
const MESSAGE_MS = 50;
/** A process just begun is slow, and shares its processor: nobody is to take longer than one waits for an owner. */
const PROMPT_MS = 1.5 * SUSPECT_AFTER_MS;
/** A network is cut, and healed, with some commands, one after another. */
const FAULT_ERROR_MS = 100;
/** All clocks are the machine's. The checker's exactness is the simulator's, where time stands still meanwhile. */
const CLOCK_ERROR = 1e-6;

/**
 * What the simulator's checker finds in a real history. Three things are known less well here: how long a message takes, at
 * most as long as the generator itself was kept off the processor, beside the usual; each clock, in whole ms that begin
 * at a moment of its own, of every node that a bucket may have been at; and when exactly a network was cut.
 */
export function violationsOf(checked: Checked): Violation[] {
  return check(historyOf(checked));
}

/** A real history as the checker reads it. */
export function historyOf(checked: Checked): sim.History {
  const { history, clients, ids, faults, statements, clientIds, replicas, endMs } = checked;
  const rules = clients.map((client) =>
    client.rules.map(({ algorithm, limit, windowMs, capacity }) =>
      ruleOf(algorithm, limit, windowMs, capacity, undefined),
    ),
  );
  const inOrder = [...history.asked].sort((a, b) => a.sentMs - b.sentMs);
  const asked = inOrder.map((one, id): sim.Asked => {
    const answered = isDecision(one);
    return {
      id,
      at: ids[one.node]!,
      askedMs: one.sentMs,
      check: createCheck(clientKey(clients[one.client]!.id), rules[one.client]!),
      answeredMs: answered ? one.receivedMs : undefined,
      decision: answered ? (one as Asked & Decision) : undefined,
    };
  });
  return {
    asked,
    faults,
    statements,
    clientIds,
    leased: new Map(clientIds.map((clientId) => [clientId, capacityOf(clients, clientId)])),
    upMs: asked[0]?.askedMs ?? 0,
    calmMs: Math.max(0, ...faults.map(({ toMs }) => toMs)),
    endMs,
    setting: {
      replicas,
      replicationIntervalMs: INTERVAL_MS,
      suspectAfterMs: SUSPECT_AFTER_MS,
      delayMs: MESSAGE_MS + history.stalledMs,
      promptMs: PROMPT_MS,
      faultErrorMs: FAULT_ERROR_MS,
      clockError: CLOCK_ERROR,
      clockGrainMs: 1 + ids.length,
      alive: statements.map(({ node }) => node),
    },
  };
}

/** More is not lent at one time. How much was lent in all is not known here. */
function capacityOf(clients: Checked['clients'], clientId: string): number {
  const of = clients.filter(({ id }) => id === clientId);
  return Math.max(0, ...of.flatMap(({ rules }) => rules.map(({ capacity }) => capacity)));
}

/** One figure for what must never be, and one for what a machine that is busy elsewhere can spoil. */
export function checkedFigures(checked: Checked): readonly Figure[] {
  const [other, late] = split(violationsOf(checked));
  return [told(VIOLATIONS, other), { ...told('answers that it finds late', late), timing: true }];
}

/** The figure for what must never be, where a machine has more to do than it can, so that answers come late. */
export function figuresOfOverload(checked: Checked): readonly Figure[] {
  return [told(VIOLATIONS, split(violationsOf(checked))[0])];
}

const VIOLATIONS = "violations that the simulator's checker finds";

function split(violations: readonly Violation[]): [other: Violation[], late: Violation[]] {
  const isLate = ({ check: name }: Violation): boolean => name === 'answered';
  return [violations.filter((one) => !isLate(one)), violations.filter(isLate)];
}

export function told(what: string, violations: readonly Violation[]): Figure {
  const some = violations.slice(0, 3).map(({ check: name, message }) => `; ${name}: ${message}`);
  return figure(what, `${violations.length}${some.join('')}`, '0', violations.length === 0);
}

/** What was heard at one time, as at another. Only durations can be told of a bucket, and they run. */
export function asAt(client: ClientDescription, heardMs: number, atMs: number): ClientDescription {
  const buckets = client.buckets.map((bucket) => {
    return { ...bucket, resetMs: Math.max(0, bucket.resetMs - (atMs - heardMs)) };
  });
  return { ...client, buckets };
}
