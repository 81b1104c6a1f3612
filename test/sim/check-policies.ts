import { sameRules } from '../../src/limits/bucket/rule.js';
import type { Violation } from './checker.js';
import { MENDED } from './excuses.js';
import type { Fault, HeldDocument, HeldEntry, History, PolicyHistory, PolicyWriteCall, Question } from './history.js';
import { meaningOf } from './policy-model.js';
import { createWrites, isUnmistakable, type Writes } from './policy-writes.js';

/**
 * The document of policies: nobody ever held a part of it, in the end all hold the same, no acknowledged write is lost or unknown
 * where it could be known, of two with the same `If-Match` one is refused, and who asks under a policy is decided under the
 * rules of a document in force.
 */
export function checkPolicies(history: History): Violation[] {
  const { policies } = history;
  if (policies === undefined || policies.adoptions.length === 0) return [];
  const writes = createWrites(policies, firstChangeMs(history));
  const problems = [
    ...halves(policies, writes),
    ...backSteps(policies),
    ...lostInTheEnd(history, policies, writes),
    ...policies.questions.flatMap((question) => misread(history, policies, writes, question)),
    ...brokenConditions(history, policies, writes),
    ...unanswered(history, policies),
  ];
  return problems.map((message) => ({ check: 'policies', message }));
}

/** Documents hold, of whatever they have a part of, the whole: of each write, and of each document that it was made in. */
function halves({ writes, adoptions, documents }: PolicyHistory, { knows }: Writes): string[] {
  const problems: string[] = [];
  const idOf = ({ key, value, version, writer }: HeldEntry): string => JSON.stringify([key, value, version, writer]);
  /** In which an entry was first seen: that of the node that wrote it. */
  const births = new Map<string, HeldDocument>();
  const checked = new Set<string>();
  for (const { node, digest, atMs } of adoptions) {
    if (checked.has(digest)) continue;
    checked.add(digest);
    const document = documents.get(digest)!;
    const has = byKeyOf(document);
    const origins = new Set<HeldDocument>();
    for (const entry of document.entries) {
      const id = idOf(entry);
      if (!births.has(id)) births.set(id, document);
      origins.add(births.get(id)!);
      if (!knows(entry.key, entry.value)) problems.push(`${node} holds ${id}, which nobody wrote, from ${atMs}`);
    }
    for (const origin of origins) {
      const missing = origin.entries.find((entry) => !isAsLate(has.get(entry.key), entry));
      if (missing !== undefined)
        problems.push(`${node} holds a part of ${origin.digest} from ${atMs}: no ${idOf(missing)}`);
    }
    for (const { changes } of writes) {
      const sure = changes.filter(([, value]) => isUnmistakable(value));
      const made = sure.find(([key, value]) => JSON.stringify(has.get(key)?.value) === JSON.stringify(value));
      if (made === undefined) continue;
      const { version, writer } = has.get(made[0])!;
      // What it held already stays as it was written.
      const half = sure.find(([key, value]) => {
        const held = has.get(key);
        return (
          !isAsLate(held, { key, value, version, writer }) && JSON.stringify(held?.value) !== JSON.stringify(value)
        );
      });
      if (half !== undefined) problems.push(`${node} holds half a change from ${atMs}: ${made[0]} without ${half[0]}`);
    }
  }
  return problems;
}

const byKeyOf = ({ entries }: HeldDocument): Map<string, HeldEntry> => new Map(entries.map((one) => [one.key, one]));

/** Whether an entry is this one, or a later one. */
function isAsLate(held: HeldEntry | undefined, entry: HeldEntry): boolean {
  if (held === undefined || held.version < entry.version) return false;
  return held.version > entry.version || held.writer >= entry.writer;
}

/** What a node holds only grows. */
function backSteps({ adoptions, documents }: PolicyHistory): string[] {
  const problems: string[] = [];
  const before = new Map<string, HeldDocument>();
  for (const { node, life, atMs, digest } of adoptions) {
    const document = documents.get(digest)!;
    const last = before.get(`${node} ${life}`);
    before.set(`${node} ${life}`, document);
    const has = byKeyOf(document);
    const lost = last?.entries.find((entry) => !isAsLate(has.get(entry.key), entry));
    if (lost !== undefined) problems.push(`${node} goes back to an older ${lost.key} at ${atMs}`);
  }
  return problems;
}

function lostInTheEnd(history: History, policies: PolicyHistory, { supersededBy }: Writes): string[] {
  const held = new Set(history.statements.map((statement) => statement.policies!));
  if (held.size > 1) return [`in the end ${[...held].join(' and ')} are held`];
  const [digest] = held;
  if (digest === undefined) return [];
  const has = byKeyOf(policies.documents.get(digest)!);
  const keys = new Set(policies.writes.flatMap(({ changes }) => changes.map(([key]) => key)));
  return [...keys].flatMap((key) => {
    const lost = supersededBy(key, has.get(key)?.value ?? null, Infinity);
    if (lost === undefined || isDivided(history, lost.askedMs, Infinity) || isLostWithAll(history, lost)) return [];
    return [
      `${key}, acknowledged by ${lost.at} at ${lost.answeredMs}, is lost: ${JSON.stringify(has.get(key)?.value)}`,
    ];
  });
}

/** Whether there may have been two that take writes, each for its side, at some time. */
function isDivided({ faults, setting }: History, fromMs: number, toMs: number): boolean {
  const mendMs = setting.suspectAfterMs * MENDED;
  const divides = ({ kind }: Fault): boolean => kind === 'partition' || kind === 'one-way' || kind === 'silence';
  return faults.some((fault) => divides(fault) && fault.fromMs <= toMs && fault.toMs + mendMs >= fromMs);
}

/** Whether all nodes that ever held a write have ended since. */
function isLostWithAll({ policies, faults }: History, { changes }: PolicyWriteCall): boolean {
  const { adoptions, documents } = policies!;
  const [key, value] = changes[0]!;
  const holds = (digest: string): boolean =>
    JSON.stringify(byKeyOf(documents.get(digest)!).get(key)?.value ?? null) === JSON.stringify(value);
  const holders = adoptions.filter(({ digest }) => holds(digest));
  const died = (node: string, sinceMs: number): boolean =>
    faults.some((fault) => fault.kind === 'crash' && fault.node === node && fault.fromMs >= sinceMs);
  return holders.length > 0 && holders.every(({ node, atMs }) => died(node, atMs));
}

/** A node that is asked under a policy follows the document that it holds, which contains all writes acknowledged long ago. */
function misread(history: History, policies: PolicyHistory, { supersededBy }: Writes, question: Question): string[] {
  const { at, atMs, clientId, policy, decision } = question;
  const document = policies.documents.get(question.digest)!;
  const meaning = meaningOf(document, clientId, policy);
  const who = `${clientId} under ${policy ?? 'the default'} at ${at}, ${atMs}`;
  const problems: string[] = [];
  const same =
    meaning === undefined
      ? question.rules === undefined
      : question.rules !== undefined &&
        sameRules(meaning.rules, question.rules) &&
        meaning.replicated === question.replicated;
  if (!same) problems.push(`${who} is decided under ${JSON.stringify(question.rules)}`);
  if (decision !== undefined && meaning !== undefined) {
    const { listed, shadow } = meaning;
    if (listed !== undefined && (decision.allowed !== (listed === 'allow') || decision.shadow !== undefined))
      problems.push(`${who} is listed, and told ${JSON.stringify(decision)}`);
    if (listed === undefined && (decision.shadow !== undefined) !== shadow)
      problems.push(`${who} is told ${JSON.stringify(decision)} where its policy is ${shadow ? '' : 'not '}on trial`);
    if (decision.shadow !== undefined && !decision.allowed) problems.push(`${who} is denied by a policy on trial`);
  }
  const has = byKeyOf(document);
  for (const key of new Set(policies.writes.flatMap(({ changes }) => changes.map(([one]) => one)))) {
    const missed = supersededBy(key, has.get(key)?.value ?? null, atMs - (history.setting.policyLagMs ?? 0));
    if (missed === undefined || isCutOff(history, missed.askedMs, atMs)) continue;
    problems.push(`${who} is decided without ${key} as acknowledged by ${missed.at} at ${missed.answeredMs}`);
    break;
  }
  return problems;
}

/** Whether a node may have heard nothing of what was written at one time until another. */
function isCutOff(history: History, fromMs: number, toMs: number): boolean {
  const { faults, setting } = history;
  const mendMs = setting.suspectAfterMs * MENDED;
  const deafens = ({ kind }: Fault): boolean => kind === 'freeze' || kind === 'lossy';
  return (
    isDivided(history, fromMs, toMs) ||
    faults.some((fault) => deafens(fault) && fault.fromMs <= toMs && fault.toMs + mendMs >= fromMs)
  );
}

function firstChangeMs({ faults }: History): number {
  return Math.min(Infinity, ...faults.map(({ fromMs }) => fromMs));
}

/** While the ring is the same for all, writes come one after the other, and each condition is kept. */
function brokenConditions(history: History, { writes }: PolicyHistory, { knows }: Writes): string[] {
  const changesMs = firstChangeMs(history);
  const problems: string[] = [];
  const versions = new Map<number, PolicyWriteCall>();
  for (const call of writes) {
    const { outcome, answeredMs = Infinity, ifMatch, changes } = call;
    if (answeredMs >= changesMs || outcome === undefined) continue;
    const what = `${JSON.stringify(changes)} at ${call.at}, ${call.askedMs}`;
    // What says nothing new makes no version.
    const isNew = changes.some(([key, value]) => isUnmistakable(value) && knows(key, value));
    if (outcome.kind === 'written' && isNew) {
      const twin = versions.get(outcome.version);
      if (twin !== undefined) problems.push(`${what} has the version of ${JSON.stringify(twin.changes)}`);
      versions.set(outcome.version, call);
      if (ifMatch !== undefined && outcome.version !== ifMatch.version + 1)
        problems.push(`${what} is made in version ${outcome.version}, though only if it was ${ifMatch.version}`);
    } else if (outcome.kind === 'conflict') {
      const others = writes.some(
        (other) =>
          other !== call &&
          (other.outcome?.kind !== 'conflict' || other.answeredMs! >= changesMs) &&
          other.askedMs <= answeredMs &&
          (other.answeredMs ?? Infinity) >= (ifMatch?.seenMs ?? Infinity),
      );
      if (ifMatch === undefined || !others) problems.push(`${what} is refused, though nobody else wrote`);
    } else if (outcome.kind === 'unavailable' || outcome.kind === 'no-registry') problems.push(`${what} is not taken`);
  }
  return problems;
}

/** Of the suspicion time, for which a writer may look for who takes writes, besides the time that nodes were away. */
const ANSWERED_WITHIN = 6;

function unanswered({ faults, setting, endMs }: History, { writes }: PolicyHistory): string[] {
  return writes.flatMap(({ at, askedMs, answeredMs, changes }) => {
    const died = faults.some(
      (one) => (one.kind === 'crash' || one.kind === 'leave') && one.node === at && one.toMs >= askedMs,
    );
    if (answeredMs === undefined && died) return [];
    const untilMs = answeredMs ?? endMs;
    const lostMs = faults
      .filter(({ fromMs, toMs }) => fromMs <= untilMs && toMs >= askedMs)
      .reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
    if (untilMs - askedMs <= ANSWERED_WITHIN * setting.suspectAfterMs + lostMs) return [];
    return [
      `${JSON.stringify(changes)} at ${at}, ${askedMs}: ${answeredMs === undefined ? 'not answered' : `answered after ${untilMs - askedMs} ms`}`,
    ];
  });
}
