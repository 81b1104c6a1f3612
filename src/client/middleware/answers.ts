import type { Decision } from '../../core/decide/decision.js';
import type { Answer } from './exchange.js';

/** `Retry-After` when no node can decide. Nodes answer the same. */
const UNAVAILABLE_RETRY_SECONDS = '1';

/**
 * Makes the answer to a denial, with the problem type of draft-ietf-httpapi-ratelimit-headers-11.
 * @param violated names of the limits that deny
 */
export function denialAnswer({ retryAfterMs }: Decision, violated: readonly string[]): Answer {
  return problemAnswer(429, {
    type: 'https://iana.org/assignments/http-problem-types#quota-exceeded',
    title: 'Request cannot be satisfied as assigned quota has been exceeded',
    status: 429,
    'violated-policies': violated,
    retryAfterMs,
  });
}

/** Makes the answer when no node can decide. */
export function unavailableAnswer(): Answer {
  const problem = { type: 'about:blank', title: 'Service Unavailable', status: 503 };
  return problemAnswer(503, problem, { 'Retry-After': UNAVAILABLE_RETRY_SECONDS });
}

function problemAnswer(status: number, problem: object, headers: Answer['headers'] = {}): Answer {
  const body = new TextEncoder().encode(JSON.stringify(problem));
  return {
    status,
    headers: {
      'Content-Type': 'application/problem+json',
      'Content-Length': String(body.length),
      'Cache-Control': 'no-store',
      ...headers,
    },
    body,
  };
}
