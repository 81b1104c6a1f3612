/** The part of autocannon that `generator.ts` uses; the package brings no types of its own. */
declare module 'autocannon' {
  import type { EventEmitter } from 'node:events';

  export interface Request {
    method: string;
    path: string;
    headers: Record<string, string>;
    body: string;
  }

  /** One connection. */
  export interface Client {
    setRequests(requests: readonly Request[]): void;
  }

  export interface Options {
    url: readonly string[];
    connections: number;
    /** Seconds. */
    duration: number;
    /** Seconds until a request counts as an error. */
    timeout: number;
    /** Called for each connection before it opens. */
    setupClient(client: Client): void;
    /** Called with each answer; `false` counts it as a mismatch. */
    verifyBody(body: string): boolean;
  }

  export interface Result {
    errors: number;
    /** Those of `errors` that were timeouts. */
    timeouts: number;
  }

  /** Emits `start`, and `response` with client, status, bytes and duration in ms; not with verifyBody's mismatches. */
  export default function autocannon(
    options: Options,
    done: (error: Error | null, result: Result) => void,
  ): EventEmitter;
}
