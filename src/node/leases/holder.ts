import { statsWith, type Check, type Verdict } from '../../limits/decide/decide.js';
import { decisionBy, type Decision } from '../../limits/decide/decision.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { MAX_LIMIT, sameRules, type Rule } from '../../limits/bucket/rule.js';
import type { LeaseGrant, LeaseReturn, LeaseRequest } from '../../protocol/messages.js';
import type { Ask } from '../../protocol/peer-transport.js';
import type { Clock, Timers } from '../../lib/clock.js';
import { createHotClients } from './hot-clients.js';

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

/** The holder's side of leases: with leased tokens, it decides for clients of other owners. */
export interface LeaseHolder {
  /** Decides with leased tokens, if there are enough for this check. */
  spend(check: Check, nowMs: number): Decision | undefined;
  /** Counts a check that goes to the owner. A client of many such checks gets a lease. */
  forwarded(check: Check, nowMs: number): void;
  /** Drops the client's leases; they are not returned. */
  forget(clientId: string): void;
  /** Returns all unspent tokens to owners that are still there, and asks for no more. */
  release(): Promise<void>;
  /** Clients with leases on this node, once for each scope. */
  leasedClients(): number;
  close(): void;
}

interface LeaseHolderDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly ask: Ask;
  /** The node that decides for a client, as far as this node knows now. */
  readonly decider: (clientId: string) => NodeId | undefined;
  /** Puts a lease back on this node, when it owns the client by now. */
  readonly giveBack: (one: LeaseReturn) => void;
  readonly self: NodeId;
}

interface LeaseHolderOptions {
  /** After so many forwards of one client within 250 ms, the holder asks for a lease: 1 to 255. */
  readonly leaseAfter: number;
}

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
interface Leased {
  readonly key: string;
  readonly clientId: string;
  readonly rules: readonly Rule[];
  /** In the order in which they end. */
  held: Held[];
  /** Tokens spent since `sinceMs`, for the rate. */
  sinceMs: number;
  spent: number;
  asking: boolean;
  refusedAtMs: number;
}

interface Outgoing {
  readonly requests: Leased[];
  readonly tokens: number[];
  readonly returns: LeaseReturn[];
}

export function createLeaseHolder(deps: LeaseHolderDeps, options: LeaseHolderOptions): LeaseHolder {
  const { clock, timers, ask, decider, giveBack, self } = deps;
  const leased = new Map<string, Leased>();
  const hotClients = createHotClients({ windowMs: HOT_MS });
  const outgoing = new Map<NodeId, Outgoing>();
  let flushesSoon = false;
  let released = false;
  let stopChecking: (() => void) | undefined;

  function outgoingTo(owner: NodeId): Outgoing {
    let out = outgoing.get(owner);
    if (out === undefined) outgoing.set(owner, (out = { requests: [], tokens: [], returns: [] }));
    return out;
  }

  function request(one: Leased, tokensPerMs: number): void {
    const owner = decider(one.clientId);
    if (owner === undefined || owner === self) return;
    one.asking = true;
    const out = outgoingTo(owner);
    out.requests.push(one);
    out.tokens.push(Math.min(MAX_LIMIT, Math.max(1, Math.ceil(tokensPerMs * LEASE_MS * RESERVE))));
    flushSoon();
  }

  function flushSoon(): void {
    if (flushesSoon) return;
    flushesSoon = true;
    timers.soon(() => {
      flushesSoon = false;
      for (const owner of [...outgoing.keys()]) void flush(owner);
    });
  }

  async function flush(owner: NodeId): Promise<void> {
    const { requests: clients, tokens, returns } = outgoingTo(owner);
    outgoing.delete(owner);
    const requests = clients.map(({ clientId, rules }, i): LeaseRequest => ({ clientId, rules, tokens: tokens[i]! }));
    const askedAtMs = clock.nowMs();
    const asked = await ask(owner, { kind: 'lease', requests, returns }, ANSWERED_MS);
    const grants = asked.kind === 'answer' && asked.body.kind === 'leased' ? asked.body.grants : [];
    clients.forEach((one, i) => take(one, grants[i] ?? undefined, owner, askedAtMs));
  }

  function take(one: Leased, grant: LeaseGrant | undefined, owner: NodeId, askedAtMs: number): void {
    const nowMs = clock.nowMs();
    const endsAtMs = askedAtMs + LEASE_MS;
    const isOver = nowMs >= endsAtMs;
    one.asking = false;
    if (grant === undefined || isOver) one.refusedAtMs = nowMs;
    if (grant === undefined) return;
    const { id, tokens, verdict } = grant;
    // The client may have been reset meanwhile, and be leased anew.
    if (isOver || leased.get(one.key) !== one) {
      outgoingTo(owner).returns.push({ clientId: one.clientId, id, unspent: tokens });
      flushSoon();
      return;
    }
    one.held.push({
      id,
      owner,
      verdict,
      tokens,
      left: tokens,
      grantedAtMs: nowMs,
      endsAtMs,
    });
    one.sinceMs = nowMs;
    one.spent = 0;
  }

  /**
   * Adds leases that are over to the returns, also the spent ones: the owner holds their tokens back until it knows.
   */
  function drop(one: Leased, isOver: (held: Held) => boolean): void {
    const over = one.held.filter(isOver);
    if (over.length === 0) return;
    one.held = one.held.filter((held) => !over.includes(held));
    // The present owner of the client has its open leases too.
    const now = decider(one.clientId);
    for (const { id, owner, left } of over) {
      const back = { clientId: one.clientId, id, unspent: left };
      if (now === self) giveBack(back);
      else outgoingTo(now ?? owner).returns.push(back);
    }
  }

  function returnExpired(): void {
    const nowMs = clock.nowMs();
    for (const one of leased.values()) {
      drop(one, ({ endsAtMs }) => endsAtMs <= nowMs);
      if (one.held.length === 0 && !one.asking && nowMs - one.refusedAtMs >= REFUSED_MS) leased.delete(one.key);
    }
    for (const [owner, { returns, requests }] of outgoing) {
      if (requests.length === 0 && returns.some(({ unspent }) => unspent > 0)) void flush(owner);
      // The owner learns of spent leases by their end, if no other message goes to it.
      else if (requests.length === 0 && leased.size === 0) outgoing.delete(owner);
    }
    if (leased.size > 0 || outgoing.size > 0) return;
    stopChecking?.();
    stopChecking = undefined;
  }

  function begin(check: Check, nowMs: number, tokensPerMs: number): void {
    if (released || leased.size >= MAX_LEASED) return;
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
    leased.set(one.key, one);
    stopChecking ??= timers.every(CHECK_INTERVAL_MS, returnExpired);
    request(one, tokensPerMs);
  }

  return {
    spend(check, nowMs) {
      if (leased.size === 0) return undefined;
      const { rules, cost, peek, requestId, reservation } = check;
      const one = leased.get(keyOf(check));
      if (one === undefined || peek || requestId !== undefined || reservation !== undefined) return undefined;
      if (!sameRules(one.rules, rules)) return undefined;
      const held = one.held.find(({ left, endsAtMs }) => left >= cost && nowMs < endsAtMs);
      if (held === undefined) return undefined;
      held.left -= cost;
      one.spent += cost;
      if (held.left === 0) drop(one, (other) => other === held);
      if (!one.asking && nowMs - one.refusedAtMs >= REFUSED_MS) {
        const last = one.held.at(-1);
        const used = last === undefined || last.left <= last.tokens * RENEW_PART;
        const late = last !== undefined && nowMs - last.grantedAtMs >= (last.endsAtMs - last.grantedAtMs) * RENEW_PART;
        if (used || late) request(one, one.spent / Math.max(MEASURED_MS, nowMs - one.sinceMs));
      }
      return decisionOf(held, nowMs);
    },
    forwarded(check, nowMs) {
      const { cost, peek, requestId, reservation } = check;
      // A lease decides none of these.
      if (peek || requestId !== undefined || reservation !== undefined) return;
      const forwards = hotClients.count(check, nowMs);
      if (forwards < options.leaseAfter || leased.has(keyOf(check))) return;
      begin(check, nowMs, (forwards * cost) / Math.max(MEASURED_MS, hotClients.countedMs(nowMs)));
    },
    forget(clientId) {
      for (const one of leased.values()) if (one.clientId === clientId) leased.delete(one.key);
    },
    async release() {
      released = true;
      for (const one of leased.values()) drop(one, () => true);
      leased.clear();
      await Promise.all([...outgoing.keys()].map(flush));
    },
    leasedClients: () => leased.size,
    close: () => stopChecking?.(),
  };
}

/** Another client may have the same key. It has other rules, so the lease pays for none of its checks. */
function keyOf({ clientId, rules }: Pick<Check, 'clientId' | 'rules'>): string {
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
