import type { Decision } from '../core/decision.js';

/**
 * A decision as JSON, in ASCII. Written by hand, as the shape is fixed and this runs a million times a second; a test holds it
 * equal to `JSON.stringify`.
 */
export function decisionJson(decision: Decision): string {
  const { allowed, limit, remaining, retryAfterMs, resetMs, limits, reservation, shadow } = decision;
  const figures = `{"allowed":${allowed},"limit":${limit},"remaining":${remaining},"retryAfterMs":${retryAfterMs},"resetMs":${resetMs}`;
  const rest = limits === undefined ? '' : `,"limits":${JSON.stringify(limits)}`;
  const reserved = reservation === undefined ? '' : `,"reservation":${asciiJson(reservation)}`;
  const trial = shadow === undefined ? '}' : `,"shadow":${JSON.stringify(shadow)}}`;
  return figures + originJson(decision) + rest + reserved + trial;
}

/** The last one written, as most answers have the same. */
let lastOrigin: Pick<Decision, 'owner' | 'source' | 'degraded'> = { owner: '', source: 'owner', degraded: false };
let lastOriginJson = '';

function originJson({ owner, source, degraded }: Decision): string {
  if (owner !== lastOrigin.owner || source !== lastOrigin.source || degraded !== lastOrigin.degraded) {
    lastOrigin = { owner, source, degraded };
    lastOriginJson = `,"owner":${asciiJson(owner)},"source":"${source}","degraded":${degraded}`;
  }
  return lastOriginJson;
}

/** As JSON without a character beyond ASCII: what is, goes as an escape. */
export function asciiJson(value: unknown): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value).replace(/[^ -~]/g, escape);
}
