/**
 * Timeout of a test of the simulator, in ms. `npm test` runs these at low priority beside tests in real time, so one of
 * them may get little of a core for minutes. Nothing in a simulation depends on real time.
 */
export const PATIENCE_MS = 600_000;
