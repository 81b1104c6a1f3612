import { ClusterClient, type Client } from './client.js';
import { readClientOptions, type ClientOptions } from './options.js';
import { systemTime } from './runtime.js';
import { FetchConnections } from './nodes/transport.js';

export type { LoadReport } from '../limits/request/request.js';
export type { LimitStats } from '../limits/decide/decide.js';
export type { Decision, Settlement, Source } from '../limits/decide/decision.js';
export type { BucketDescription, ClientDescription } from '../limits/request/description.js';
export type { AcquireOptions, AllowOptions, Limiter, OnUnavailable } from '../limits/request/limiter.js';
export type { AllowRequest, Duration, LimitRequest } from '../limits/request/request.js';
export type { Algorithm } from '../limits/bucket/rule.js';
export type { Client } from './client.js';
export { TokenringError } from '../lib/error.js';
export type { ErrorCode } from '../lib/error.js';
export type { LoadWatch, LoadWatchOptions } from './load-watch.js';
export type { ClientOptions } from './options.js';
export type { LoadAnswer } from './nodes/answers.js';

/**
 * Creates a client of a cluster. It asks `nodes` at once and learns the members meanwhile. It does not keep the process
 * alive.
 * @throws TypeError that names an option that is unknown or not valid, and what is expected
 */
export function createClient(options: ClientOptions): Client {
  const read = readClientOptions(options);
  if (read.tls !== undefined)
    throw new TypeError('tls: only Node.js takes options for certificates; use those of this runtime');
  return new ClusterClient(new FetchConnections(), systemTime, read);
}
