import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Decision } from '../../../../src/limits/decide/decision.js';
import type { CommonOptions } from '../../../../src/client/middleware/rate-limit-options.js';

/** A request and its answer, as the callbacks of a case see them under each framework. */
export interface Seen {
  header(name: string): string | undefined;
  /** Of the answer, after it has ended. */
  status(): number;
}

/** What `onDenied` of a case wants: an answer, or that the request passes. */
type OnDenied = { readonly status: number; readonly text: string } | 'pass';

/** Options of a limiter, without the types of a framework. */
export interface LimiterOptions extends Omit<CommonOptions<[Seen]>, 'onDenied'> {
  readonly onDenied?: (seen: Seen, decision: Decision) => OnDenied | Promise<OnDenied>;
}

/** What the only route of an app does after the limiters have let a request pass. */
export type Handler =
  /** Answers with the decision as JSON, or null. */
  | { readonly kind: 'json'; readonly status?: number }
  /** Answers with a body in three pieces. */
  | { readonly kind: 'stream' }
  /** Begins a body and never ends it. */
  | { readonly kind: 'endless' }
  /** Breaks the connection off. */
  | { readonly kind: 'break' }
  | { readonly kind: 'throw'; readonly error: unknown };

export interface AppSpec {
  readonly limiters: readonly LimiterOptions[];
  /** Whether the app takes the address from one proxy in front of it. Default false. */
  readonly behindProxy?: boolean;
  readonly handler?: Handler;
  /** Called for each request that the limiters have let pass. */
  readonly onPass?: () => void;
}

export interface App {
  readonly port: number;
  close(): Promise<void>;
}

/** One framework with the adapter under test. */
export interface Framework {
  readonly name: string;
  /**
   * Starts an app on 127.0.0.1 with the limiters in order, and one route for GET at `/`. Its error handler answers 500
   * with the `code`, `field`, and `message` of the error as JSON.
   */
  start(spec: AppSpec): Promise<App>;
}

export const PIECES = ['one ', 'two ', 'three'];

export function errorBody(error: unknown): object {
  const { code, field, message } = Object(error) as { code?: string; field?: string; message?: string };
  return { code: code ?? null, field: field ?? null, message: code === undefined ? message : null };
}

/** Gives the callbacks of a case the arguments of a framework. `onDenied` is left to it. */
export function forFramework(options: LimiterOptions, seenOf: (...args: never) => Seen): CommonOptions<never> {
  const see = seenOf as (...args: unknown[]) => Seen;
  const entries = Object.entries(options)
    .filter(([name]) => name !== 'onDenied')
    .map(([name, value]: [string, unknown]) => {
      if (typeof value !== 'function') return [name, value];
      const call = value as (seen: Seen, decision?: unknown) => unknown;
      if (name === 'onFirstDenied')
        return [name, (request: unknown, decision: Decision) => call(see(request), decision)];
      return [name, (...args: unknown[]) => call(see(...args))];
    });
  return Object.fromEntries(entries) as CommonOptions<never>;
}

/** The app of a server that begins to listen. */
export async function running(server: Server): Promise<App> {
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
