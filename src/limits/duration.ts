import { MAX_WINDOW_MS } from './bucket/rule.js';

/** Valid windows, for messages. */
export const EXPECTED_WINDOW = 'whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Reads a duration: a whole number and a unit, as in `"250ms"`, `"10s"`, `"1m"`, `"1h"`, or `"1d"`.
 * @returns whole ms; `undefined` for any other text, for 0, and for more than 366 days
 */
export function parseDuration(text: string): number | undefined {
  if (text !== lastText) {
    lastMs = parse(text);
    lastText = text;
  }
  return lastMs;
}

/** The last result is kept, because most calls have the same window. */
let lastText = '';
let lastMs: number | undefined;

function parse(text: string): number | undefined {
  const match = /^(\d{1,11})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Number(match[1]) * UNIT_MS[match[2]!]!;
  return ms >= 1 && ms <= MAX_WINDOW_MS ? ms : undefined;
}

/** The shortest bare number of ms for a window that nobody doubts. */
const DOUBTED_MS = 1_000;

/**
 * Returns a warning about a window that may be meant in seconds: a bare number below 1,000 has no unit that tells.
 * @param field path of the window, as in `limits[1].window`
 */
export function warningOnWindow(field: string, window: unknown): string | undefined {
  if (typeof window !== 'number' || window >= DOUBTED_MS) return undefined;
  return `${field}: ${window} means ${window} milliseconds; for seconds write "${window}s", otherwise "${window}ms"`;
}

/** Formats a duration of at least 1 ms as the shortest text for `parseDuration`: 60000 is `"1m"`. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const unitMs = UNIT_MS[unit]!;
    if (ms % unitMs === 0) return `${ms / unitMs}${unit}`;
  }
  return `${ms}ms`;
}
