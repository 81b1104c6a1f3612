import type { Algorithm } from '../bucket/rule.js';

/** Largest number of requests in one batch. */
export const MAX_BATCH = 1000;
/** Largest body of one request. */
export const MAX_REQUEST_BYTES = 64 * 1024;
/** Largest body of a batch. */
export const MAX_BATCH_BYTES = 1024 * 1024;

/** A whole number and a unit: `"250ms"`, `"10s"`, `"1m"`, `"1h"`, `"1d"`. */
export type Duration = `${number}${'ms' | 's' | 'm' | 'h' | 'd'}`;

/** One limit as callers write it. */
export interface LimitRequest {
  /** Requests allowed per window: whole, 0 to 1e9; 0 denies all. */
  readonly limit: number;
  /** Whole ms, or `"250ms"`, `"10s"`, `"1m"`, `"1h"`, `"1d"`: 1 ms to 366 days. */
  readonly window?: number | Duration;
  /** The window in whole ms, instead of `window`. */
  readonly windowMs?: number;
  /** Capacity of the token bucket: whole, 1 to 1e9. Default: `limit`. */
  readonly burst?: number;
  /** Default `token-bucket`. */
  readonly algorithm?: Algorithm;
}

/** A request as callers write it, for `POST /v1/allow` and for `check`. */
export interface AllowRequest extends Partial<LimitRequest> {
  /** 1 to 256 bytes of Unicode. */
  readonly clientId: string;
  /**
   * Names another set of buckets of the same client: 1 to 128 bytes. Lists, tiers, and overrides look at `clientId`
   * alone. A client has at most 64 buckets in all, so the scopes of an application are few and its own.
   */
  readonly scope?: string;
  /** 1 to 8 limits instead of one. All must allow the request; otherwise nothing is consumed. */
  readonly limits?: readonly LimitRequest[];
  /** A named policy, instead of any limit. */
  readonly policy?: string;
  /** Whole, 1 to 1e9. Default 1. */
  readonly cost?: number;
  /** Reserves the cost. The decision names a reservation, which the caller settles within ten minutes. */
  readonly reserve?: boolean;
  /** Answers without consuming. */
  readonly peek?: boolean;
  /** Answers only when a replica holds a copy, so that a crash admits nothing twice. */
  readonly durability?: 'replicated';
  /** 1 to 128 bytes. A request with the same id for the same client within 60 s gets the first decision again. */
  readonly requestId?: string;
}

/** Longest request id of a batch, in bytes. With the index of an item, it is no longer than one of a request. */
export const MAX_BATCH_ID_BYTES = 124;

/** The request id of an item that has none of its own, in a batch that has one. @param index from 0 */
export function batchItemId(batchId: string, index: number): string {
  return `${batchId}#${index}`;
}

interface BatchItemId {
  readonly batchId: string;
  readonly index: number;
}

/** A batch has at most 1,000 items. */
const ITEM_ID = /^(.+)#(0|[1-9]\d{0,2})$/s;

/** Reads what `batchItemId` writes. @returns `undefined` for any other request id */
export function readBatchItemId(requestId: string): BatchItemId | undefined {
  // Most ids have no index. To find that out takes less than a regular expression.
  if (!requestId.includes('#')) return undefined;
  const found = ITEM_ID.exec(requestId);
  return found === null ? undefined : { batchId: found[1]!, index: Number(found[2]) };
}

/** The report of a protected service about its load. */
export interface LoadReport {
  /** 0: idle, 1: fully loaded. */
  readonly load?: number;
  /** Any latency of the service, such as the 95th percentile. */
  readonly latencyMs?: number;
  /** The share of requests that failed, 0 to 1. */
  readonly errors?: number;
}
