import type { Bucket, Buckets } from './bucket/bucket.js';
import type { CheckBatch } from './decide/check-batch.js';
import type { Check, CheckParams } from './decide/check.js';
import type { Decision } from './decide/decision.js';
import type { Rule } from './bucket/rule.js';

/*
 * Upper bounds of what objects take on V8's heap, in bytes. `test/core/heap-bytes.test.ts` compares them with the heap.
 */

/** Character codes above 255 make every character of a string take two bytes. */
const CHARACTER_BYTES = 2;
const STRING_BYTES = 24;

/** The object of a client, and its entries in the lists of the table. */
const CLIENT_BYTES = 290;
const BUCKET_BYTES = 136;
/** One end or one count of a sliding window, and the two arrays without their elements. */
const STEP_BYTES = 8;
const ARRAYS_BYTES = 96;
const LEASES_BYTES = 120;
const LEASE_BYTES = 180;
const RULE_BYTES = 92;
/** Figures of one limit in a decision. */
const LIMIT_BYTES = 136;
/** A decision, and its entry in a cache. */
const DECISION_BYTES = 640;
const DENIAL_BYTES = 368;
const RESERVATION_BYTES = 1_100;
/** The debts of one rule that a reservation keeps. */
const RESERVED_RULE_BYTES = 390;
/** A request, its answer, and what calls back. */
const REQUEST_BYTES = 4_000;
/** A check, its place in a batch and in a queue, and its answer. */
const CHECK_BYTES = 760;
/** One limit of a check beside its rule and its figures. */
const CHECK_LIMIT_BYTES = 24;

function stringBytes(text: string): number {
  return STRING_BYTES + CHARACTER_BYTES * text.length;
}

function ruleBytes({ policy, scope }: Rule): number {
  return RULE_BYTES + (policy === undefined ? 0 : stringBytes(policy)) + scopeBytes(scope);
}

/** Bytes of the scope of a rule. Any request may name a new one. */
export function scopeBytes(scope: string | undefined): number {
  return scope === undefined ? 0 : stringBytes(scope);
}

/** Bytes of a client whose buckets are objects. */
export function clientBytes(buckets: Buckets, idBytes: number): number {
  let bytes = CLIENT_BYTES + STRING_BYTES + CHARACTER_BYTES * idBytes;
  for (let bucket = buckets.first; bucket !== undefined; bucket = bucket.next) bytes += bucketBytes(bucket);
  return bytes;
}

function bucketBytes(bucket: Bucket): number {
  let bytes = BUCKET_BYTES + ruleBytes(bucket.rule);
  if (bucket.algorithm === 'sliding-window') bytes += ARRAYS_BYTES + 2 * STEP_BYTES * capacityOf(bucket.counts.length);
  if (bucket.leases !== undefined) {
    bytes += LEASES_BYTES;
    for (const { id } of bucket.leases.list) bytes += LEASE_BYTES + stringBytes(id);
  }
  return bytes;
}

/** V8 gives an array that grows element by element room for half as many again and 16 more. */
function capacityOf(length: number): number {
  let capacity = 0;
  while (capacity < length) capacity = capacity + (capacity >> 1) + 17;
  return capacity;
}

/** Bytes of a decision that is remembered under a request id. */
export function rememberedDecisionBytes(clientId: string, requestId: string, { limits }: Decision): number {
  return DECISION_BYTES + stringBytes(clientId) + stringBytes(requestId) + LIMIT_BYTES * (limits?.length ?? 0);
}

/** Bytes of a reservation. */
export function reservationBytes(clientId: string, id: string, rules: readonly Rule[]): number {
  let bytes = RESERVATION_BYTES + stringBytes(clientId) + stringBytes(id);
  for (const rule of rules) bytes += RESERVED_RULE_BYTES + ruleBytes(rule);
  return bytes;
}

/** Bytes of a denial that a node or a client library remembers. */
export function denialBytes(clientId: string, rules: readonly Rule[], { limits }: Decision): number {
  let bytes = DENIAL_BYTES + stringBytes(clientId) + LIMIT_BYTES * (limits?.length ?? 0);
  for (const rule of rules) bytes += ruleBytes(rule);
  return bytes;
}

/** Bytes of a request that waits for its answers, those that it has included. */
export function waitingBatchBytes({ bytes: { length }, items }: CheckBatch): number {
  let bytes = REQUEST_BYTES + length;
  for (const item of items) bytes += checkBytes(item.idBytes, item.params, item.isObject ? item.requestId : undefined);
  return bytes;
}

/** Bytes of a peer's checks that wait for their decision or its confirmation, and of the answer. */
export function waitingChecksBytes(checks: readonly Check[]): number {
  let bytes = REQUEST_BYTES;
  for (const check of checks) bytes += checkBytes(check.clientId.length, check, check.requestId);
  return bytes;
}

function checkBytes(idBytes: number, { rules, reservation }: CheckParams, requestId: string | undefined): number {
  let bytes = CHECK_BYTES + CHARACTER_BYTES * idBytes;
  if (requestId !== undefined) bytes += stringBytes(requestId);
  if (reservation !== undefined) bytes += stringBytes(reservation);
  for (const rule of rules) bytes += CHECK_LIMIT_BYTES + LIMIT_BYTES + ruleBytes(rule);
  return bytes;
}
