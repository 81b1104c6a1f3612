import type { Answer } from '../../support/http.js';

/** What callers see of an answer, without what differs from run to run. Fields that it does not have are left out. */
export type Shown = Readonly<Record<string, unknown>>;

const HEADERS = [
  'ratelimit-policy',
  'ratelimit',
  'ratelimit-limit',
  'ratelimit-remaining',
  'ratelimit-reset',
  'x-ratelimit-limit',
  'x-ratelimit-remaining',
  'x-ratelimit-reset',
  'retry-after',
  'cache-control',
];

export function shown(answer: Answer): Shown {
  const { status, headers } = answer;
  const found = HEADERS.map((name) => [name, headers[name]]).filter(([, value]) => value !== undefined);
  const fields = Object.fromEntries(found) as Record<string, string>;
  // The only one that names a time of day.
  const resetAt = fields['x-ratelimit-reset'];
  if (resetAt !== undefined)
    fields['x-ratelimit-reset'] = `in ${Math.round((Number(resetAt) - Date.now() / 1_000) / 10) * 10} s`;
  const isProblem = headers['content-type'] === 'application/problem+json';
  return {
    status,
    ...fields,
    ...(isProblem && { problem: headers['content-length'] !== undefined }),
    body: bodyOf(answer),
  };
}

function bodyOf({ json, text }: Answer): unknown {
  if (json === undefined) return text;
  if (typeof json !== 'object' || json === null) return json;
  if ('allowed' in json) {
    const { allowed, remaining, limit } = json as unknown as Record<string, unknown>;
    return `${allowed === true ? 'allowed' : 'denied'}, ${String(remaining)} of ${String(limit)} left`;
  }
  if ('retryAfterMs' in json && json.retryAfterMs !== null)
    return { ...json, retryAfterMs: Math.ceil(Number(json.retryAfterMs) / 1_000) * 1_000 };
  return json;
}
