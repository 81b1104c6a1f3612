import type { Decision, Origin } from '../../../limits/decide/decision.js';

/**
 * Formats a decision as JSON in ASCII. The JSON is written by hand, as this is the hot path. A test checks that it
 * equals `JSON.stringify`.
 */
export function decisionJson(decision: Decision): string {
  const { limits, reservation, shadow } = decision;
  const rest = limits === undefined ? '' : `,"limits":${JSON.stringify(limits)}`;
  const reserved = reservation === undefined ? '' : `,"reservation":${asciiJson(reservation)}`;
  const shadowJson = shadow === undefined ? '}' : `,"shadow":${JSON.stringify(shadow)}}`;
  return statsJson(decision) + originJson(decision) + rest + reserved + shadowJson;
}

/** Formats a decision as a gateway shows it to its caller, without anything about the cluster. */
export function gatewayJson(decision: Decision): string {
  return `${statsJson(decision)}}`;
}

function statsJson({ allowed, limit, remaining, retryAfterMs, resetMs }: Decision): string {
  return `{"allowed":${allowed},"limit":${limit},"remaining":${remaining},"retryAfterMs":${retryAfterMs},"resetMs":${resetMs}`;
}

/** The part of the JSON that decisions of one origin share; it begins with a comma. */
export function originJson({ owner, source, degraded }: Origin): string {
  return `,"owner":${asciiJson(owner)},"source":"${source}","degraded":${degraded}`;
}

/** Formats JSON in ASCII. Other characters become escapes. */
export function asciiJson(value: unknown): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value).replace(/[^ -~]/g, escape);
}
