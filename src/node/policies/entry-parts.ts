import { MAX_DOCUMENT_BYTES, MAX_ENTRIES, type PolicyDocument } from '../../policy/policy-document.js';
import { lineOf, partsOf, type Entry, type Part } from '../../policy/policy-entry.js';
import type { NodeId } from '../../limits/ring/ring.js';
import type { PeerAnswer, Ask } from '../../protocol/messages.js';

/** Bounds of what is fetched from a peer. A document that two sides of a partition have filled may be twice as large. */
const MAX_FETCHED_BYTES = 2 * MAX_DOCUMENT_BYTES;
const MAX_FETCHED_ENTRIES = 2 * MAX_ENTRIES;

/**
 * Hands out large lists of entries in parts, each list under a name, and fetches those of peers.
 *
 * @param current the document in force, which is handed out under its digest
 */
export class EntryParts {
  private readonly offered = new Map<string, readonly Part[]>();
  /** The document that was last divided. A peer may fetch all its parts, also when another is in force. */
  private divided: { readonly digest: string; readonly parts: readonly Part[] } | undefined;

  constructor(
    private readonly deps: { readonly ask: Ask; readonly current: () => PolicyDocument },
    private readonly options: { timeoutMs: number },
  ) {}

  /** @returns the parts of a document, which are also handed out under its digest */
  divide({ digest, entries }: PolicyDocument): readonly Part[] {
    if (this.divided?.digest !== digest) this.divided = { digest, parts: partsOf(entries) };
    return this.divided.parts;
  }

  /** Hands out these entries until the returned function is called. */
  offer(name: string, entries: Part): () => void {
    this.offered.set(name, partsOf(entries));
    return () => void this.offered.delete(name);
  }

  answer(name: string, part: number): PeerAnswer {
    const parts = this.partsNamed(name);
    const more = parts !== undefined && part + 1 < parts.length;
    // A large one takes memory. It is divided again for the next peer.
    if (!more && this.divided?.digest === name) this.divided = undefined;
    return { kind: 'policy-part', entries: parts?.[part] ?? null, more };
  }

  /** @returns all entries of a list; `undefined` if the peer does not hand it out, or not all of it */
  async fetchAll(from: NodeId, name: string): Promise<ReadonlyMap<string, Entry> | undefined> {
    const fetched = new Map<string, Entry>();
    let bytes = 0;
    for (let part = 0; bytes <= MAX_FETCHED_BYTES && fetched.size <= MAX_FETCHED_ENTRIES; part += 1) {
      const asked = await this.deps.ask(from, { kind: 'policy-part', of: name, part }, this.options.timeoutMs);
      if (asked.kind !== 'answer' || asked.body.kind !== 'policy-part') return undefined;
      const { entries, more } = asked.body;
      if (entries === null || (entries.length === 0 && more)) return undefined;
      for (const [key, entry] of entries) {
        fetched.set(key, entry);
        // It is hashed here, and not in the turn that needs all hashes.
        bytes += lineOf(key, entry).bytes;
      }
      if (!more) return fetched;
    }
    return undefined;
  }

  private partsNamed(name: string): readonly Part[] | undefined {
    if (this.divided?.digest === name) return this.divided.parts;
    return this.deps.current().digest === name ? this.divide(this.deps.current()) : this.offered.get(name);
  }
}
