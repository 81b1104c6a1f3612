import type { Decision } from '../../core/decision.js';

/**
 * A decision as JSON, in ASCII. Written by hand, as the shape is fixed and this runs a million times a second; a test holds it
 * equal to `JSON.stringify`.
 */
export function decisionJson(decision: Decision): string {
  const { limits, reservation, shadow } = decision;
  const rest = limits === undefined ? '' : `,"limits":${JSON.stringify(limits)}`;
  const reserved = reservation === undefined ? '' : `,"reservation":${asciiJson(reservation)}`;
  const trial = shadow === undefined ? '}' : `,"shadow":${JSON.stringify(shadow)}}`;
  return figures(decision) + originJson(decision) + rest + reserved + trial;
}

/** What a gateway shows to its caller: none of what is inside. */
export function gatewayJson(decision: Decision): string {
  return `${figures(decision)}}`;
}

function figures({ allowed, limit, remaining, retryAfterMs, resetMs }: Decision): string {
  return `{"allowed":${allowed},"limit":${limit},"remaining":${remaining},"retryAfterMs":${retryAfterMs},"resetMs":${resetMs}`;
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
