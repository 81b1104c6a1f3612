import type { Algorithm } from './rule.js';

/** Requests in one batch. */
export const MAX_BATCH = 1000;
/** Of the body of one request, and of a batch. */
export const MAX_REQUEST_BYTES = 64 * 1024;
export const MAX_BATCH_BYTES = 1024 * 1024;

/** A whole number and a unit: `"250ms"`, `"10s"`, `"1m"`, `"1h"`, `"1d"`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

/** One limit as callers write it. */
export interface LimitRequest {
  /** Requests allowed per window: whole, 0 to 1e9; 0 denies all. */
  readonly limit: number;
  /** Whole ms, or `"250ms"`, `"10s"`, `"1m"`, `"1h"`, `"1d"`: 1 ms to 366 days. */
  readonly window?: number | Duration;
  /** The same in ms, instead. */
  readonly windowMs?: number;
  /** Capacity of a token bucket, where it differs from `limit`: whole, 1 to 1e9. */
  readonly burst?: number;
  /** Default `token-bucket`. */
  readonly algorithm?: Algorithm;
}

/** A question as callers write it: `POST /v1/allow`, `check` of a node and of a client. */
export interface AllowRequest extends Partial<LimitRequest> {
  /** 1 to 256 bytes of Unicode. */
  readonly clientId: string;
  /** 1 to 8 at once, all or nothing, instead of one. */
  readonly limits?: readonly LimitRequest[];
  /** A named policy, instead of any limit. */
  readonly policy?: string;
  /** Whole, 1 to 1e9. Default 1. */
  readonly cost?: number;
  /** Names a reservation, to settle the cost once it is known, within ten minutes. */
  readonly reserve?: boolean;
  /** Answer without consuming. */
  readonly peek?: boolean;
  /** Answer only when a successor holds a copy, so that a crash admits nothing twice. */
  readonly durability?: 'replicated';
  /** The same id for the same client within 60 s gets the first decision again: 1 to 128 bytes. */
  readonly requestId?: string;
}
