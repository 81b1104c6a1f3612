import { LRUCache } from 'lru-cache';
import { change, documentOf, hasRoomFor, merge } from '../core/policy-document.js';
import type { Changes, Entry, PolicyDocument } from '../core/policy-document.js';
import type { NodeId } from '../core/ring.js';
import type { Asked } from './forwarder.js';
import type { Membership } from './membership.js';
import type { PeerAnswer, PeerMessage, Written } from './messages.js';
import type { PolicyBook } from './policy-book.js';
import type { Timers } from './ports.js';

/** Its owner on the ring takes all writes: of two at once, one sees the other. No client is told apart by it. */
const WRITES = 'policies';
const RETRY_MS = 25;
/** Outcomes kept in case their write is sent again. */
const MAX_OUTCOMES = 256;

export interface PolicyDesk {
  /**
   * Changes the document on every node, or nothing.
   * @param ifMatch the change is made only to a document with one of these tags: its version, or version and digest as in
   * `12-0123456789abcdef`; `undefined`: to any
   */
  write(changes: Changes, ifMatch?: readonly string[]): Promise<Written>;
  answerWrite(message: Extract<PeerMessage, { kind: 'write-policies' }>): Promise<PeerAnswer>;
  answerSync(message: Extract<PeerMessage, { kind: 'policies' }>): PeerAnswer;
  /** Notes which document another node holds. */
  heard(id: NodeId, digest: string): void;
  /** Compares documents with one node that holds another. */
  tick(): void;
  /** Learns the document of one of these. @returns whether one has answered */
  catchUp(ids: readonly NodeId[]): Promise<boolean>;
}

export interface PolicyDeskDeps {
  readonly timers: Timers;
  readonly membership: Membership;
  readonly book: PolicyBook;
  readonly ask: (to: NodeId, body: PeerMessage, timeoutMs: number) => Promise<Asked>;
  readonly decider: (key: string) => NodeId | undefined;
  /** Whether this node has to wait before it decides anything. */
  readonly isHeld: () => boolean;
}

/** Keeps the one document of policies equal on all nodes. */
export function createPolicyDesk(deps: PolicyDeskDeps, { timeoutMs }: { timeoutMs: number }): PolicyDesk {
  const { timers, membership, book, ask, decider, isHeld } = deps;
  const heard = new Map<NodeId, string>();
  const outcomes = new LRUCache<string, Promise<Written>>({ max: MAX_OUTCOMES });
  let syncing = false;
  let writes = 0;
  // What was heard before is old news now: who holds something else will say so again.
  book.onChange(() => heard.clear());

  function messageOf(entries: ReadonlyMap<string, Entry>, whole: boolean): Extract<PeerMessage, { kind: 'policies' }> {
    const { version, digest } = book.document;
    return { kind: 'policies', version, digest, entries: [...entries], whole };
  }

  /** Tells another node, with as much as it takes until both hold the same. @returns whether it has answered */
  async function sync(id: NodeId, entries: ReadonlyMap<string, Entry>): Promise<boolean> {
    const asked = await ask(id, messageOf(entries, false), timeoutMs);
    if (asked.kind !== 'answer' || asked.body.kind !== 'policies') return false;
    const { version, whole, entries: theirs, digest } = asked.body;
    if (whole) book.adopt(merge(book.document, documentOf(version, new Map(theirs))));
    if (book.document.digest !== digest) await ask(id, messageOf(book.document.entries, true), timeoutMs);
    return true;
  }

  async function writeHere(changes: Changes, ifMatch: readonly string[] | undefined): Promise<Written> {
    const { document } = book;
    const { version, digest } = document;
    if (ifMatch !== undefined && !ifMatch.some((tag) => tag === String(version) || tag === `${version}-${digest}`)) {
      return { kind: 'conflict', version, digest };
    }
    if (!hasRoomFor(document, changes)) return { kind: 'full' };
    const next = change(document, changes, membership.self.id);
    book.adopt(next);
    const news = new Map([...next.entries].filter(([key, entry]) => document.entries.get(key) !== entry));
    if (news.size > 0) await Promise.all(reachable().map((id) => sync(id, news)));
    return { kind: 'written', version: next.version, digest: next.digest };
  }

  function reachable(): NodeId[] {
    return membership.others().filter((id) => !membership.isDown(id));
  }

  return {
    async write(changes, ifMatch) {
      const { id: self, incarnation } = membership.self;
      const writeId = `${self} ${incarnation} ${++writes}`;
      for (let waitedMs = 0; waitedMs < 3 * timeoutMs; waitedMs += RETRY_MS) {
        const to = decider(WRITES);
        if (to === self && !isHeld()) return writeHere(changes, ifMatch);
        if (to !== undefined && to !== self) {
          const asked = await ask(to, { kind: 'write-policies', writeId, changes: [...changes], ifMatch }, timeoutMs);
          // Whoever was asked has seen to it that this node knows, if it could be reached.
          if (asked.kind === 'answer' && asked.body.kind === 'policies-written' && asked.body.written !== null) {
            return asked.body.written;
          }
          if (asked.kind === 'timeout') waitedMs += timeoutMs;
        }
        await timers.sleep(RETRY_MS);
      }
      return { kind: 'unavailable' };
    },
    async answerWrite({ writeId, changes, ifMatch }) {
      let outcome = outcomes.get(writeId);
      if (outcome === undefined) {
        if (decider(WRITES) !== membership.self.id || isHeld()) return { kind: 'policies-written', written: null };
        outcome = writeHere(new Map(changes), ifMatch);
        outcomes.set(writeId, outcome);
      }
      return { kind: 'policies-written', written: await outcome };
    },
    answerSync({ version, digest, entries, whole }) {
      const { document } = book;
      if (whole) book.adopt(merge(document, documentOf(version, new Map(entries))));
      else if (digest !== document.digest && entries.length > 0) {
        // In part only where it makes the sender's document of this one: none is ever half applied.
        const next = documentOf(version, new Map([...document.entries, ...entries]));
        if (next.digest === digest && version > document.version) book.adopt(next);
      }
      const mine: PolicyDocument = book.document;
      const same = mine.digest === digest;
      return {
        kind: 'policies',
        version: mine.version,
        digest: mine.digest,
        entries: same ? [] : [...mine.entries],
        whole: !same,
      };
    },
    heard: (id, digest) => void heard.set(id, digest),
    tick() {
      if (syncing) return;
      for (const [id, digest] of heard) {
        if (membership.stateOf(id) === undefined) heard.delete(id);
        if (digest === book.document.digest || membership.isDown(id)) continue;
        syncing = true;
        heard.delete(id);
        void sync(id, new Map()).then(() => (syncing = false));
        return;
      }
    },
    async catchUp(ids) {
      for (const id of ids) if (await sync(id, new Map())) return true;
      return false;
    },
  };
}
