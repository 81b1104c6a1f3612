import { statsWith, type Verdict } from '../../limits/decide/decide.js';
import { asksSame, mayUseLease, type Question, type Check } from '../../limits/decide/check.js';
import { decisionBy, type Decision } from '../../limits/decide/decision.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { MAX_LIMIT } from '../../limits/bucket/rule.js';
import type { LeaseGrant, LeaseReturn, LeaseRequest, Ask } from '../../protocol/messages.js';
import { BatchingQueue, type Batch } from '../../lib/batching-queue.js';
import type { Clock, Timers } from '../../lib/system.js';
import { HotClients } from './hot-clients.js';
import type { Router } from '../../membership/route.js';

/** A holder spends tokens for this long after it asked for them. */
export const LEASE_MS = 400;
/**
 * When this part of a lease is spent, or of its time is over, the holder asks for the next one. It comes before the
 * last one ends.
 */
const RENEW_PART = 0.5;
/** The holder asks for this multiple of what it used, because rates are uneven. */
const RESERVE = 1.25;
/** After a refusal, the holder waits this long: the client is near its limit. */
const REFUSED_MS = 250;
/** Window in which the forwards of a client are counted. */
const HOT_MS = 250;
/** A rate is measured over at least this time, because the checks of one turn of the event loop are not a rate. */
const MEASURED_MS = 50;
/** Bound of the clients with leases on this node. */
const MAX_LEASED = 10_000;
/** The holder waits this long for an answer. Tokens that come after the end of their lease go straight back. */
const ANSWERED_MS = 2 * LEASE_MS;
/** While there are leases, expired ones are returned at this interval. */
const CHECK_INTERVAL_MS = 50;

interface Held {
  readonly id: string;
  readonly owner: NodeId;
  readonly verdict: Verdict;
  readonly tokens: number;
  readonly grantedAtMs: number;
  readonly endsAtMs: number;
  left: number;
}

/** A client with leases in one scope, or without since a moment ago. */
interface Leased extends Question {
  readonly key: string;
  /** In the order in which they end. */
  held: Held[];
  /** Tokens spent since `sinceMs`, for the rate. */
  sinceMs: number;
  spent: number;
  asking: boolean;
  refusedAtMs: number;
}

/** A part of a message to an owner. */
type Outgoing =
  | { readonly kind: 'request'; readonly leased: Leased; readonly tokens: number }
  | { readonly kind: 'return'; readonly back: LeaseReturn };

/** The holder's side of leases: with leased tokens, it decides for clients of other owners. */
export class LeaseHolder {
  private readonly leased = new Map<string, Leased>();
  private readonly hotClients = new HotClients(HOT_MS);
  /** Requests go out at once; returns of spent leases wait for the next message to their owner. */
  private readonly queue: BatchingQueue<Outgoing>;
  private readonly unanswered = new Set<Promise<void>>();
  private released = false;
  private stopChecking: (() => void) | undefined;

  constructor(
    private readonly parts: {
      readonly clock: Clock;
      readonly timers: Timers;
      readonly ask: Ask;
      readonly router: Router;
      /** Puts a lease back on this node, when it owns the client by now. */
      readonly giveBack: (one: LeaseReturn) => void;
      readonly self: NodeId;
      /** After so many forwards of one client within 250 ms, the holder asks for a lease: 1 to 255. */
      readonly leaseAfter: number;
    },
  ) {
    const { clock, timers } = parts;
    this.queue = new BatchingQueue({ clock, timers, send: (batch) => this.send(batch) });
  }

  /** Decides with leased tokens, if there are enough for this check. */
  spend(check: Check, nowMs: number): Decision | undefined {
    if (this.leased.size === 0) return undefined;
    const { cost } = check;
    const one = this.leased.get(keyOf(check));
    if (one === undefined || !mayUseLease(check) || !asksSame(one, check)) return undefined;
    const held = one.held.find(({ left, endsAtMs }) => left >= cost && nowMs < endsAtMs);
    if (held === undefined) return undefined;
    held.left -= cost;
    one.spent += cost;
    if (held.left === 0) this.drop(one, (other) => other === held);
    if (!one.asking && nowMs - one.refusedAtMs >= REFUSED_MS) {
      const last = one.held.at(-1);
      const used = last === undefined || last.left <= last.tokens * RENEW_PART;
      const late = last !== undefined && nowMs - last.grantedAtMs >= (last.endsAtMs - last.grantedAtMs) * RENEW_PART;
      if (used || late) this.request(one, one.spent / Math.max(MEASURED_MS, nowMs - one.sinceMs));
    }
    return decisionOf(held, nowMs);
  }

  /** Counts a check that goes to the owner. A client of many such checks gets a lease. */
  forwarded(check: Check, nowMs: number): void {
    if (!mayUseLease(check)) return;
    const forwards = this.hotClients.count(check, nowMs);
    if (forwards < this.parts.leaseAfter || this.leased.has(keyOf(check))) return;
    this.begin(check, nowMs, (forwards * check.cost) / Math.max(MEASURED_MS, this.hotClients.countedMs(nowMs)));
  }

  /** Drops the client's leases; they are not returned. */
  forget(clientId: string): void {
    for (const one of this.leased.values()) if (one.clientId === clientId) this.leased.delete(one.key);
  }

  /** Returns all unspent tokens to owners that are still there, and asks for no more. */
  async release(): Promise<void> {
    this.released = true;
    for (const one of this.leased.values()) this.drop(one, () => true);
    this.leased.clear();
    for (const owner of [...this.queue.destinations()]) this.queue.flush(owner);
    await Promise.all(this.unanswered);
  }

  /** Clients with leases on this node, once for each scope. */
  leasedClients(): number {
    return this.leased.size;
  }

  close(): void {
    this.stopChecking?.();
  }

  private request(one: Leased, tokensPerMs: number): void {
    const owner = this.parts.router.otherDecider(one.clientId);
    if (owner === undefined) return;
    one.asking = true;
    const tokens = Math.min(MAX_LIMIT, Math.max(1, Math.ceil(tokensPerMs * LEASE_MS * RESERVE)));
    this.queue.add(owner, { kind: 'request', leased: one, tokens });
  }

  private send(batch: Batch<Outgoing>): void {
    // The next message need not wait for the answer.
    this.queue.end(batch);
    const answered = this.ask(batch).then(() => void this.unanswered.delete(answered));
    this.unanswered.add(answered);
  }

  private async ask({ to: owner, items }: Batch<Outgoing>): Promise<void> {
    const { clock, ask } = this.parts;
    const asking: Leased[] = [];
    const requests: LeaseRequest[] = [];
    const returns: LeaseReturn[] = [];
    for (const out of items) {
      if (out.kind === 'return') returns.push(out.back);
      else {
        const { clientId, rules } = out.leased;
        asking.push(out.leased);
        requests.push({ clientId, rules, tokens: out.tokens });
      }
    }
    const askedAtMs = clock.nowMs();
    const asked = await ask(owner, { kind: 'lease', requests, returns }, ANSWERED_MS);
    const grants = asked.kind === 'answer' && asked.body.kind === 'leased' ? asked.body.grants : [];
    asking.forEach((one, i) => this.take(one, grants[i] ?? undefined, owner, askedAtMs));
  }

  private take(one: Leased, grant: LeaseGrant | undefined, owner: NodeId, askedAtMs: number): void {
    const nowMs = this.parts.clock.nowMs();
    const endsAtMs = askedAtMs + LEASE_MS;
    const isOver = nowMs >= endsAtMs;
    one.asking = false;
    if (grant === undefined || isOver) one.refusedAtMs = nowMs;
    if (grant === undefined) return;
    const { id, tokens, verdict } = grant;
    // The client may have been reset meanwhile, and be leased anew.
    if (isOver || this.leased.get(one.key) !== one) {
      this.queue.add(owner, { kind: 'return', back: { clientId: one.clientId, id, unspent: tokens } });
      return;
    }
    one.held.push({ id, owner, verdict, tokens, left: tokens, grantedAtMs: nowMs, endsAtMs });
    one.sinceMs = nowMs;
    one.spent = 0;
  }

  /**
   * Adds leases that are over to the returns, also the spent ones: the owner holds their tokens back until it knows.
   */
  private drop(one: Leased, isOver: (held: Held) => boolean): void {
    const { router, self, giveBack } = this.parts;
    const over = one.held.filter(isOver);
    if (over.length === 0) return;
    one.held = one.held.filter((held) => !over.includes(held));
    // The present owner of the client has its open leases too.
    const now = router.deciderOf(one.clientId);
    for (const { id, owner, left } of over) {
      const back = { clientId: one.clientId, id, unspent: left };
      if (now === self) giveBack(back);
      else this.queue.addLazily(now ?? owner, { kind: 'return', back });
    }
  }

  private returnExpired(): void {
    const nowMs = this.parts.clock.nowMs();
    for (const one of this.leased.values()) {
      this.drop(one, ({ endsAtMs }) => endsAtMs <= nowMs);
      if (one.held.length === 0 && !one.asking && nowMs - one.refusedAtMs >= REFUSED_MS) this.leased.delete(one.key);
    }
    for (const owner of [...this.queue.destinations()]) {
      const waiting = this.queue.waitingFor(owner);
      if (waiting.some((out) => out.kind === 'return' && out.back.unspent > 0)) this.queue.flush(owner);
      // The owner learns of spent leases by their end, if no other message goes to it.
      else if (this.leased.size === 0) this.queue.withdraw(owner);
    }
    if (this.leased.size > 0 || this.queue.size() > 0) return;
    this.stopChecking?.();
    this.stopChecking = undefined;
  }

  private begin(check: Check, nowMs: number, tokensPerMs: number): void {
    if (this.released || this.leased.size >= MAX_LEASED) return;
    const { clientId, rules } = check;
    const one: Leased = {
      key: keyOf(check),
      clientId,
      rules,
      held: [],
      sinceMs: nowMs,
      spent: 0,
      asking: false,
      refusedAtMs: -Infinity,
    };
    this.leased.set(one.key, one);
    this.stopChecking ??= this.parts.timers.every(CHECK_INTERVAL_MS, () => this.returnExpired());
    this.request(one, tokensPerMs);
  }
}

/** Another client may have the same key. It has other rules, so the lease pays for none of its checks. */
function keyOf({ clientId, rules }: Question): string {
  const scope = rules[0]?.scope;
  return scope === undefined ? clientId : `${clientId}\0${scope}`;
}

/** The owner's answer with the lease, brought to now: this node knows no more of the client. */
function decisionOf({ owner, verdict, left, grantedAtMs }: Held, nowMs: number): Decision {
  const { limit, remaining, resetMs, limits } = verdict;
  const leftOf = (ms: number): number => Math.max(0, ms - (nowMs - grantedAtMs));
  return decisionBy(
    { owner, source: 'lease', degraded: false },
    { allowed: true, limit, remaining: remaining + left, retryAfterMs: 0, resetMs: leftOf(resetMs) },
    limits?.map((one) => statsWith(one, one.remaining + left, one.retryAfterMs, leftOf(one.resetMs))),
  );
}
