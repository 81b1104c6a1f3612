import { MAX_WINDOW_MS } from './rule.js';

/** What a window may be, for messages. */
export const EXPECTED_WINDOW = 'whole milliseconds or "250ms", "10s", "1m", "1h", "1d", from 1 ms to 366 d';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * Whole ms of `"250ms"`, `"10s"`, `"1m"`, `"1h"` or `"1d"`: a whole number and a unit.
 * @returns `undefined` for anything else, 0, or more than 366 days
 */
export function parseDuration(text: string): number | undefined {
  if (text !== lastText) {
    lastMs = parse(text);
    lastText = text;
  }
  return lastMs;
}

/** Callers name the same window again and again. */
let lastText = '';
let lastMs: number | undefined;

function parse(text: string): number | undefined {
  const match = /^(\d{1,11})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Number(match[1]) * UNIT_MS[match[2]!]!;
  return ms >= 1 && ms <= MAX_WINDOW_MS ? ms : undefined;
}

/** The shortest text that `parseDuration` reads back: 60000 is `"1m"`. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const unitMs = UNIT_MS[unit]!;
    if (ms >= unitMs && ms % unitMs === 0) return `${ms / unitMs}${unit}`;
  }
  return `${ms}ms`;
}
