/** A little more than is asked for, as some ticks come late. */
export const PER_SECOND = 2_100;
/** As the nodes are set. */
export const INTERVAL_MS = 50;
export const SUSPECT_AFTER_MS = 1_000;
/**
 * So that a node is not taken for dead, nor for frozen, that gets no processor for a moment: for rows about something else, as what
 * that may admit is other rows' to show.
 */
export const UNSUSPECTED = ['--suspect-after-ms', '5000'];
