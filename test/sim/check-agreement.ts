import type { BucketDescription, ClientDescription } from '../../src/limits/request/description.js';
import { compareStrictness, type Rule } from '../../src/limits/bucket/rule.js';
import type { Violation } from './checker.js';
import { copyAgeMs, excusesOf, isPlanned, LENT, type Excuses } from './excuses.js';
import type { History, SettleCall, Statement } from './history.js';
import { bucketKey } from './takes.js';

/** Members that are further apart hear of a returned lease when it is over. */
const NEAR_MS = 100;

/** A copy of a change names the reservations that changed since then: `NEW_RESERVATION_MS` of `state/copies.ts`. */
const NAMED_MS = 2_500;

/** Some time after the last fault all nodes agree on every owner, and owner and successors hold the same. */
export function checkAgreement(history: History): Violation[] {
  const excuses = excusesOf(history);
  const { statements, setting } = history;
  const violations: Violation[] = [];
  const alive = [...setting.alive].sort().join();
  for (const { node, members } of statements) {
    if (members.join() !== alive)
      violations.push({ check: 'agreement', message: `${node} sees ${members.join()}, where ${alive} are up` });
  }
  const [first] = statements;
  if (violations.length > 0 || first === undefined) return violations;
  history.clientIds.forEach((clientId, i) => {
    const said = new Set(statements.map(({ owners }) => JSON.stringify(owners[i])));
    if (said.size > 1)
      violations.push({ check: 'agreement', message: `${clientId} has owners ${[...said].join(' and ')}` });
    else violations.push(...checkCopies(history, excuses, first, i));
  });
  return violations;
}

function checkCopies(history: History, excuses: Excuses, { owners }: Statement, i: number): Violation[] {
  const { owner, successors } = owners[i]!;
  const held = (node: string): ClientDescription | undefined =>
    history.statements.find((statement) => statement.node === node)?.clients[i];
  const original = owner === undefined ? undefined : held(owner);
  if (original === undefined) return [];
  const violations: Violation[] = [];
  for (const successor of successors) {
    const copy = held(successor);
    if (copy === undefined) continue;
    for (const key of new Set([...keysOf(original), ...keysOf(copy)])) {
      const a = bucketOf(original, key);
      const b = bucketOf(copy, key);
      const problem = difference(history, excuses, original.clientId, key, a, b);
      if (problem === undefined) continue;
      const sides = `owner ${owner} ${JSON.stringify(a)}, copy at ${successor} ${JSON.stringify(b)}`;
      violations.push({ check: 'copies', message: `${key} ${problem}: ${sides}` });
    }
  }
  return violations;
}

const keyOf = (clientId: string, { scope, policy, algorithm, windowMs }: BucketDescription): string =>
  bucketKey(clientId, { scope, policy, algorithm, windowMs });

function keysOf({ clientId, buckets }: ClientDescription): string[] {
  return buckets.map((bucket) => keyOf(clientId, bucket));
}

function bucketOf({ clientId, buckets }: ClientDescription, key: string): BucketDescription | undefined {
  return buckets.find((bucket) => keyOf(clientId, bucket) === key);
}

/**
 * A copy is stricter by its time under way; a sliding window counts in steps that each node sets for itself; and after each
 * change of the limit the copy goes on at the old rate until it is told. Tokens that did not come back in that time come
 * back later, under the limit that is in force by then.
 */
function difference(
  history: History,
  excuses: Excuses,
  clientId: string,
  key: string,
  owner: BucketDescription | undefined,
  copy: BucketDescription | undefined,
): string | undefined {
  const { setting, faults, endMs } = history;
  const bucket = owner ?? copy!;
  const moves = faults.filter(isPlanned).length;
  const heldUpMs = faults
    .filter((fault) => !isPlanned(fault))
    .reduce((sum, { fromMs, toMs }) => {
      const arrivedMs = toMs + 3 * setting.suspectAfterMs;
      return sum + (arrivedMs - fromMs) * slowdown(history, key, bucket, arrivedMs);
    }, 0);
  const stepMs = bucket.algorithm === 'sliding-window' ? Math.ceil(bucket.windowMs / 32) : 0;
  const settled = (history.settles ?? []).filter(({ of }) => of.check.clientId === clientId);
  // A copy sees for longer how little was owed before the next take: so much less of a reservation comes back there.
  const toldMs = (changesOf(history, key) + settled.length) * copyAgeMs(setting);
  // One clock may be as much too fast as the other is too slow.
  const driftMs = 2 * endMs * setting.clockError;
  const lateMs = 2 + (2 + 2 * moves) * setting.delayMs + driftMs + toldMs;
  // Where a lease ends unseen, nothing of it comes back there.
  const unreturned = settled
    .filter((call) => history.leased.has(clientId) || mayMissSettlement(history, excuses, call))
    .reduce((sum, { of, cost }) => sum + Math.max(0, of.check.cost - cost), 0);
  const unseenMs = (unreturned * bucket.windowMs) / Math.max(1, bucket.limit);
  const toleratedMs = heldUpMs + lateMs * slowdown(history, key, bucket, endMs) + stepMs + unseenMs;
  const tolerated = toleratedMs + lentRestMs(history, clientId, key);
  const apartMs = Math.abs((owner?.resetMs ?? 0) - (copy?.resetMs ?? 0));
  return apartMs > tolerated ? `differ by ${apartMs} ms, tolerated are ${tolerated}` : undefined;
}

/**
 * How many ms it takes now until as much has come back as did in a ms by `untilMs`: the largest limit until then, in parts
 * of the present one. A count of a sliding window ends at its time, whatever the limit.
 */
function slowdown({ asked }: History, key: string, { algorithm, limit }: BucketDescription, untilMs: number): number {
  if (algorithm === 'sliding-window') return 1;
  let fastest = 0;
  for (const { check, askedMs } of asked) {
    if (askedMs > untilMs) continue;
    for (const rule of check.rules)
      if (bucketKey(check.clientId, rule) === key) fastest = Math.max(fastest, rule.limit);
  }
  return fastest / limit;
}

/**
 * Whether a copy may have got back less from a settlement than the owner, as the client has moved since it was reserved.
 * After a fault, two nodes may have reserved it, each with a debt of its own. In a planned change of the ring, two nodes
 * send a new replica copies, and one of them may not know the settlement yet. A copy of a change names the reservations
 * of the last `NAMED_MS` only, so the new replica cannot tell whether an older one is settled in it.
 */
function mayMissSettlement(
  { faults, setting }: History,
  excuses: Excuses,
  { of, askedMs, answeredMs = Infinity }: SettleCall,
): boolean {
  if (excuses.mayForget(of.askedMs, answeredMs)) return true;
  const lateMs = copyAgeMs(setting);
  if (answeredMs + lateMs - of.askedMs < NAMED_MS) return false;
  return faults.some(
    (fault) => isPlanned(fault) && fault.fromMs <= answeredMs + lateMs && fault.toMs + lateMs >= askedMs,
  );
}

/**
 * How long the tokens take to come back that a copy counts although no lease holder spent them. A copy that hears too
 * late that tokens came back counts each lease as spent. Where messages are fast, the next lease shows that the copy
 * hears again, so only those count that are open at one time: half of the capacity at most. Where each message is late,
 * leases that follow each other may each count. Zero where messages arrive, and soon.
 */
function lentRestMs({ asked, faults, leased, setting }: History, clientId: string, key: string): number {
  const lent = leased.get(clientId);
  const near = setting.delayMs < NEAR_MS;
  if (lent === undefined || (near && faults.every(isPlanned))) return 0;
  const rules = asked.flatMap(({ check }) => check.rules.filter((rule) => bucketKey(check.clientId, rule) === key));
  const { algorithm, windowMs } = rules[0]!;
  if (algorithm === 'sliding-window') return windowMs;
  // Lent under one limit, it may come back under a lower one.
  const most = Math.max(...rules.map(({ capacity }) => capacity));
  const slowest = Math.max(1, Math.min(...rules.map(({ limit }) => limit)));
  return ((near ? Math.min(lent, most * LENT) : lent) * windowMs) / slowest;
}

/** How often a bucket was asked for under another limit than the time before. */
function changesOf({ asked }: History, key: string): number {
  let changes = 0;
  let before: Rule | undefined;
  for (const { check } of asked) {
    const rule = check.rules.find((one) => bucketKey(check.clientId, one) === key);
    if (rule === undefined) continue;
    if (before !== undefined && compareStrictness(rule, before) !== 0) changes += 1;
    before = rule;
  }
  return changes;
}
