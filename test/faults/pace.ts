/** A little more than is asked for, as some ticks come late. */
export const PER_SECOND = 2_100;
/** As the nodes are set. */
export const INTERVAL_MS = 50;
export const SUSPECT_AFTER_MS = 1_000;
