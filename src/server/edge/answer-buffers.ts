import { ByteWriter, fragmentOf, type Fragment } from '../../lib/byte-writer.js';
import type { Provenance, Source } from '../../limits/decide/decision.js';

/** Room for the head of an answer in front of its body. */
const HEAD_BYTES = 512;
const INITIAL_BYTES = 32 * 1024;
/** A writer with more memory than this is not used again. */
const KEPT_BYTES = 256 * 1024;
/** Writers that are kept for the next answers. */
const MAX_IDLE = 4;

/** Writers of answers, whose memory is used again. */
export class WriterPool {
  private readonly idle: ByteWriter[] = [];

  /** Returns an empty writer. */
  take(): ByteWriter {
    const out = this.idle.pop() ?? new ByteWriter(HEAD_BYTES, INITIAL_BYTES);
    out.clear();
    return out;
  }

  /** Called when nothing reads the memory of the writer any more. */
  giveBack(out: ByteWriter): void {
    if (this.idle.length < MAX_IDLE && out.bytes.length <= KEPT_BYTES) this.idle.push(out);
  }
}

/** Nodes whose fragments are kept. A ring has fewer, and each of its answers names one. */
const MAX_OWNERS = 1_024;

type Kept = Map<string, Partial<Record<Source, Fragment>>>;

/** The part of an answer that says who decided. It is kept, as decisions have few origins. */
export class ProvenanceFragments {
  private readonly kept: Kept = new Map();
  private readonly keptDegraded: Kept = new Map();

  /** @param textOf formats the part in ASCII */
  constructor(private readonly textOf: (origin: Provenance) => string) {}

  of(origin: Provenance): Fragment {
    const kept = origin.degraded ? this.keptDegraded : this.kept;
    let bySource = kept.get(origin.owner);
    if (bySource === undefined) {
      if (kept.size >= MAX_OWNERS) kept.clear();
      kept.set(origin.owner, (bySource = {}));
    }
    return (bySource[origin.source] ??= fragmentOf(this.textOf(origin)));
  }
}
