/** Makes checks wait while this node may not decide for their clients and no other node does. */
export class DecisionGate {
  private closings = 0;
  private untilOpen: Promise<void> | undefined;
  private open: () => void = () => undefined;

  /** Makes all checks wait until the returned function is called. It opens once for each call of `close`. */
  readonly close = (): (() => void) => {
    this.closings += 1;
    this.untilOpen ??= new Promise((resolve) => (this.open = resolve));
    return () => {
      this.closings -= 1;
      if (this.closings > 0) return;
      this.untilOpen = undefined;
      this.open();
    };
  };

  /** Resolves when checks may be decided; `undefined` if they may be now. */
  opening(): Promise<void> | undefined {
    return this.untilOpen;
  }

  get isClosed(): boolean {
    return this.untilOpen !== undefined;
  }
}
