import { createClientWith } from './client.js';
import type { Client } from './client.js';
import { readClientOptions } from './options.js';
import type { ClientOptions } from './options.js';
import { systemTime } from './time.js';
import { createFetchConnections } from './transport/fetch.js';

export type { LoadReport } from '../core/policy/adaptive.js';
export type { LimitStats } from '../core/decide/decide.js';
export type { Decision, Settlement, Source } from '../core/decide/decision.js';
export type { BucketDescription, ClientDescription } from '../core/request/description.js';
export type { AcquireOptions, AllowOptions, Limiter, OnUnavailable } from '../core/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../core/request/request.js';
export type { Algorithm } from '../core/bucket/rule.js';
export type { Client } from './client.js';
export { TokenringError } from '../core/error.js';
export type { ErrorCode } from '../core/error.js';
export type { LoadWatch, LoadWatchOptions } from './load/load-watch.js';
export type { ClientOptions } from './options.js';
export type { LoadAnswer } from './asking/read-answer.js';

/**
 * Creates a client of a cluster. It asks `nodes` at once and learns the members meanwhile. It does not keep the process
 * alive.
 * @throws TypeError that names an option that is unknown or not valid, and what is expected
 */
export function createClient(options: ClientOptions): Client {
  const read = readClientOptions(options);
  if (read.tls !== undefined)
    throw new TypeError('tls: only Node.js takes options for certificates; use those of this runtime');
  return createClientWith({ connections: createFetchConnections(), time: systemTime }, read);
}
