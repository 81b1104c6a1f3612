import type { Decision } from '../../limits/decide/decision.js';
import { seconds } from '../../limits/request/rate-limit-headers.js';
import type { Answer } from './exchange.js';

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

/** Makes the answer when no node can decide. The caller is not at fault, and learns nothing about the nodes. */
export function unavailableAnswer(retryAfterMs: number): Answer {
  const problem = {
    type: 'urn:tokenring:problem:unavailable',
    code: 'unavailable',
    status: 503,
    title: 'Service Unavailable',
    detail: 'The limit of requests cannot be checked now',
    retryAfterMs,
  };
  return problemAnswer(503, problem, { 'Retry-After': String(seconds(retryAfterMs)) });
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
