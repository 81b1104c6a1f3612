import { inTurns, type Steps } from '../../lib/turns.js';
import type { PolicyDocument } from '../../policy/policy-document.js';
import type { Timers } from '../../lib/system.js';
import type { ActivePolicies } from '../../policy/active-policies.js';

/** Changes the document in force, one change after the other. A change of a large document takes several turns. */
export class DocumentChanges {
  private last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly deps: {
      readonly timers: Pick<Timers, 'soon'>;
      readonly activePolicies: ActivePolicies;
    },
  ) {}

  /**
   * Prepares a change in steps, with other work in between, and then makes it at once. Prepares it anew if the document
   * has been replaced meanwhile.
   * @param commit makes the change, and returns the result. The next change does not wait for it if it is a promise.
   */
  async make<T, R>(
    prepare: (mine: PolicyDocument) => Steps<T>,
    commit: (prepared: T, mine: PolicyDocument) => R | Promise<R>,
  ): Promise<R> {
    const made = this.last.then(async () => {
      for (;;) {
        const mine = this.deps.activePolicies.document();
        const prepared = await inTurns(prepare(mine), this.deps.timers);
        if (this.deps.activePolicies.document() === mine) return { result: commit(prepared, mine) };
      }
    });
    this.last = made.catch(() => undefined);
    return (await made).result;
  }
}
