import type { Check, Verdict } from '../../core/decide.js';
import type { Decision } from '../../core/decision.js';
import type { NodeId } from '../../core/ring.js';
import { MAX_LIMIT, sameRules } from '../../core/rule.js';
import type { Rule } from '../../core/rule.js';
import type { LeaseGrant, LeaseReturn, LeaseRequest } from '../messages.js';
import type { Ask, Clock, Timers } from '../ports.js';
import { createHotClients } from './hot-clients.js';

/** How long tokens may be spent, counted by the holder from when it asked. */
export const LEASE_MS = 400;
/** A new lease is asked for when this part of the last one is spent, or of its time is over: it comes before the last one ends. */
const RENEW_PART = 0.5;
/** Asked for beyond what was used at the rate so far, as rates are uneven. */
const RESERVE = 1.25;
/** Where none was to be had, the client is near its limit: it is not asked again for so long. */
const REFUSED_MS = 250;
/** In which forwards are counted that make a client worth a lease. */
const HOT_MS = 250;
/** A rate is measured over no less: what comes in one turn of the event loop is not a rate. */
const MEASURED_MS = 50;
/** Clients with leases here. */
const MAX_LEASED = 10_000;
/** How long an answer is waited for. One that comes when the lease is over has tokens that go straight back. */
const ANSWERED_MS = 2 * LEASE_MS;
/** How often leases are looked at that are over, while there are some. */
const LOOK_INTERVAL_MS = 50;

/** The holder's side of leases: decides by itself for clients that others own. */
export interface LeaseHolder {
  /** Decides with leased tokens, if there are enough for this check. */
  spend(check: Check, nowMs: number): Decision | undefined;
  /** Counts a check that goes to the owner: a client that many go for is leased. */
  forwarded(check: Check, nowMs: number): void;
  /** Drops the client's leases; they are not returned. */
  forget(clientId: string): void;
  /** Returns all that is not spent, to who is still there, and asks for no more. */
  release(): Promise<void>;
  /** Clients with leases here. */
  readonly leasedClients: number;
  close(): void;
}

interface LeaseHolderDeps {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly ask: Ask;
  /** Who decides for a client, as far as this node knows now. */
  readonly decider: (clientId: string) => NodeId | undefined;
  /** Where this node owns the client by now, it takes back its own leases. */
  readonly giveBack: (one: LeaseReturn) => void;
  readonly self: NodeId;
}

interface LeaseHolderOptions {
  /** Forwards of one client within 250 ms that make it worth a lease. */
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

/** A client that is leased, or was until a moment ago. */
interface Leased {
  readonly clientId: string;
  readonly rules: readonly Rule[];
  /** The one that ends first comes first. */
  held: Held[];
  /** What was spent since then. */
  sinceMs: number;
  spent: number;
  asking: boolean;
  refusedAtMs: number;
}

interface Outgoing {
  readonly wishes: Leased[];
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
  let stopLooking: (() => void) | undefined;

  function outgoingTo(owner: NodeId): Outgoing {
    let out = outgoing.get(owner);
    if (out === undefined) outgoing.set(owner, (out = { wishes: [], tokens: [], returns: [] }));
    return out;
  }

  function wish(one: Leased, tokensPerMs: number): void {
    const owner = decider(one.clientId);
    if (owner === undefined || owner === self) return;
    one.asking = true;
    const out = outgoingTo(owner);
    out.wishes.push(one);
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
    const { wishes: clients, tokens, returns } = outgoingTo(owner);
    outgoing.delete(owner);
    const wishes = clients.map(({ clientId, rules }, i): LeaseRequest => ({ clientId, rules, tokens: tokens[i]! }));
    const askedAtMs = clock.nowMs();
    const asked = await ask(owner, { kind: 'lease', wishes, returns }, ANSWERED_MS);
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
    // Or forgotten meanwhile, and perhaps hot anew.
    if (isOver || leased.get(one.clientId) !== one) {
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

  /** Puts what is over among the returns; also what was spent wholly: the sooner the owner knows, the less it holds back. */
  function drop(one: Leased, isOver: (held: Held) => boolean): void {
    const over = one.held.filter(isOver);
    if (over.length === 0) return;
    one.held = one.held.filter((held) => !over.includes(held));
    // Who owns the client by now has its open leases with the rest.
    const now = decider(one.clientId);
    for (const { id, owner, left } of over) {
      const back = { clientId: one.clientId, id, unspent: left };
      if (now === self) giveBack(back);
      else outgoingTo(now ?? owner).returns.push(back);
    }
  }

  function look(): void {
    const nowMs = clock.nowMs();
    for (const one of leased.values()) {
      drop(one, ({ endsAtMs }) => endsAtMs <= nowMs);
      if (one.held.length === 0 && !one.asking && nowMs - one.refusedAtMs >= REFUSED_MS) leased.delete(one.clientId);
    }
    for (const [owner, { returns, wishes }] of outgoing) {
      if (wishes.length === 0 && returns.some(({ unspent }) => unspent > 0)) void flush(owner);
      // Who has nothing else to hear from this node learns of it by the end of the lease.
      else if (wishes.length === 0 && leased.size === 0) outgoing.delete(owner);
    }
    if (leased.size > 0 || outgoing.size > 0) return;
    stopLooking?.();
    stopLooking = undefined;
  }

  function begin(check: Check, nowMs: number, tokensPerMs: number): void {
    if (released || leased.size >= MAX_LEASED) return;
    const { clientId, rules } = check;
    const one: Leased = {
      clientId,
      rules,
      held: [],
      sinceMs: nowMs,
      spent: 0,
      asking: false,
      refusedAtMs: -Infinity,
    };
    leased.set(clientId, one);
    stopLooking ??= timers.every(LOOK_INTERVAL_MS, look);
    wish(one, tokensPerMs);
  }

  return {
    spend(check, nowMs) {
      const { clientId, rules, cost, peek, requestId, reservation } = check;
      const one = leased.get(clientId);
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
        if (used || late) wish(one, one.spent / Math.max(MEASURED_MS, nowMs - one.sinceMs));
      }
      return decisionOf(held, nowMs);
    },
    forwarded(check, nowMs) {
      const { clientId, cost, peek, requestId, reservation } = check;
      // None of these could be decided by a lease.
      if (peek || requestId !== undefined || reservation !== undefined) return;
      const forwards = hotClients.count(check, nowMs);
      if (forwards < options.leaseAfter || leased.has(clientId)) return;
      begin(check, nowMs, (forwards * cost) / Math.max(MEASURED_MS, hotClients.countedMs(nowMs)));
    },
    forget: (clientId) => void leased.delete(clientId),
    async release() {
      released = true;
      for (const one of leased.values()) drop(one, () => true);
      leased.clear();
      await Promise.all([...outgoing.keys()].map(flush));
    },
    get leasedClients() {
      return leased.size;
    },
    close: () => stopLooking?.(),
  };
}

/** What the owner said with the lease, as far as it still holds; nobody knows better here. */
function decisionOf({ owner, verdict, left, grantedAtMs }: Held, nowMs: number): Decision {
  const passedMs = nowMs - grantedAtMs;
  const { limit, remaining, resetMs, limits } = verdict;
  return {
    allowed: true,
    limit,
    remaining: remaining + left,
    retryAfterMs: 0,
    resetMs: Math.max(0, resetMs - passedMs),
    owner,
    source: 'lease',
    degraded: false,
    limits: limits?.map((one) => ({
      ...one,
      remaining: one.remaining + left,
      resetMs: Math.max(0, one.resetMs - passedMs),
    })),
  };
}
