import { inTurns } from '../../lib/steps.js';
import type { Steps } from '../../lib/steps.js';
import type { PolicyDocument } from '../../policy/policy-document.js';
import type { Timers } from '../../lib/clock.js';
import type { ActivePolicies } from '../../policy/active-policies.js';

/** Changes the document in force, one change after the other. A change of a large document takes several turns. */
export interface DocumentChanges {
  /**
   * Prepares a change in steps, with other work in between, and then makes it at once. Prepares it anew if the document
   * has been replaced meanwhile.
   * @param commit makes the change, and returns the result. The next change does not wait for it if it is a promise.
   */
  make<T, R>(
    prepare: (mine: PolicyDocument) => Steps<T>,
    commit: (prepared: T, mine: PolicyDocument) => R | Promise<R>,
  ): Promise<R>;
}

export function createDocumentChanges({
  timers,
  activePolicies,
}: {
  readonly timers: Pick<Timers, 'soon'>;
  readonly activePolicies: ActivePolicies;
}): DocumentChanges {
  let last: Promise<unknown> = Promise.resolve();
  const turn = (): Promise<void> => new Promise((resolve) => timers.soon(resolve));

  return {
    async make(prepare, commit) {
      const made = last.then(async () => {
        for (;;) {
          const mine = activePolicies.document();
          const prepared = await inTurns(prepare(mine), turn);
          if (activePolicies.document() === mine) return { result: commit(prepared, mine) };
        }
      });
      last = made.catch(() => undefined);
      return (await made).result;
    },
  };
}
