/** One line of the table: a figure, and what it must reach. */
export interface Goal {
  /** Under which it stands in `reference.json`. */
  readonly name: string;
  readonly what: string;
  /** Empty where the figure is only for information. */
  readonly mustReach: string;
  readonly measured: string;
  /** How much of the goal is reached: 1 just so, less than 1 is missed. */
  readonly reached: number | undefined;
}

export interface BenchOptions {
  /** Folder of the built package. */
  readonly dist: string;
  /** Shorter and fewer slices, for a first look. */
  readonly quick: boolean;
  /** Says what goes on, on a line that the next one replaces. */
  readonly progress: (text: string) => void;
}

/** Measures one or a few of the goals. */
export type Bench = (options: BenchOptions) => Promise<readonly Goal[]>;

export function atLeast(goal: number, measured: number): number {
  return measured / goal;
}

export function atMost(goal: number, measured: number): number {
  return goal / measured;
}

export function count(number: number): string {
  return Math.round(number).toLocaleString('en-US');
}
