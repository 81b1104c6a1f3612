/** Makes checks wait while this node may not decide for their clients and no other node does. */
export interface Hold {
  /** Makes all checks wait until the returned function is called. Holds add up. */
  readonly begin: () => () => void;
  /** Resolves when the last hold ends; `undefined` if there is none. */
  ended(): Promise<void> | undefined;
}

export function createHold(): Hold {
  let holds = 0;
  let ended: Promise<void> | undefined;
  let resolveEnded: () => void = () => undefined;

  return {
    begin() {
      holds += 1;
      ended ??= new Promise((resolve) => (resolveEnded = resolve));
      return () => {
        holds -= 1;
        if (holds > 0) return;
        ended = undefined;
        resolveEnded();
      };
    },
    ended: () => ended,
  };
}
