import { fragmentOf, type Fragment } from '../../lib/byte-writer.js';
import type { Origin, Source } from '../../limits/decide/decision.js';

/** Nodes whose fragments are kept. A ring has fewer, and each of its answers names one. */
const MAX_OWNERS = 1_024;

type Kept = Map<string, Partial<Record<Source, Fragment>>>;

/** The part of an answer that says who decided. It is kept, as decisions have few origins. */
export class OriginFragments {
  private readonly kept: Kept = new Map();
  private readonly keptDegraded: Kept = new Map();

  /** @param textOf formats the part in ASCII */
  constructor(private readonly textOf: (origin: Origin) => string) {}

  of(origin: Origin): Fragment {
    const kept = origin.degraded ? this.keptDegraded : this.kept;
    let bySource = kept.get(origin.owner);
    if (bySource === undefined) {
      if (kept.size >= MAX_OWNERS) kept.clear();
      kept.set(origin.owner, (bySource = {}));
    }
    return (bySource[origin.source] ??= fragmentOf(this.textOf(origin)));
  }
}
