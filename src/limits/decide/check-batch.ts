import { batchItemId } from '../request/request.js';
import { hashClientBytes } from '../ring/client-hash.js';
import type { TokenringError } from '../../lib/error.js';
import type { TraceContext } from '../../lib/trace-context.js';
import { createCheck, type Check, type CheckParams } from './check.js';
import type { LimitStats, Verdict } from './decide.js';
import { decisionBy, type Decision, type Provenance } from './decision.js';

const NO_BYTES = Buffer.alloc(0);
const hash = new Int32Array(2);

/** The parts of a decision that few decisions have. */
type Extras = Pick<Decision, 'reservation' | 'unreserved' | 'shadow'>;

/** One check of a batch, and its decision or error. Further fields of a check belong into `CheckParams`. */
export class BatchItem {
  hashHigh = 0;
  hashLow = 0;
  /** Where the client id stands in the bytes of the batch, if the check came as bytes. */
  idStart = 0;
  idEnd = 0;
  /** Where its request id stands there; nowhere if both are equal. */
  requestIdStart = 0;
  requestIdEnd = 0;

  error: TokenringError | undefined = undefined;
  /** Who decided. `undefined` without a decision; then the figures below have no meaning. */
  provenance: Provenance | undefined = undefined;
  allowed = false;
  limit = 0;
  remaining = 0;
  retryAfterMs: number | null = 0;
  resetMs = 0;
  limits: readonly LimitStats[] | undefined = undefined;
  extras: Extras | undefined = undefined;

  /** @param object the check as an object, if it came as one; else it is made when it is first needed */
  constructor(
    private readonly batch: CheckBatch,
    /** From 0. */
    readonly index: number,
    readonly params: CheckParams,
    private object: Check | undefined,
  ) {}

  /** The check as an object, for what outlives this turn of the event loop. */
  get check(): Check {
    return (this.object ??= this.createCheck());
  }

  get batchId(): string | undefined {
    return this.batch.batchId;
  }

  get batchSize(): number {
    return this.batch.size;
  }

  get bytes(): Buffer {
    return this.batch.bytes;
  }

  /** Gives the check a trace of its own. */
  traceUnder(trace: TraceContext | undefined): void {
    if (trace !== undefined) this.object = Object.assign({}, this.check, { trace });
  }

  /** Whether there is a decision or an error. A later one replaces it. */
  get isAnswered(): boolean {
    return this.provenance !== undefined || this.error !== undefined;
  }

  get isObject(): boolean {
    return this.object !== undefined;
  }

  get clientId(): string {
    return this.object?.clientId ?? this.batch.bytes.toString('latin1', this.idStart, this.idEnd);
  }

  /** `undefined` if the check has none. */
  get requestId(): string | undefined {
    const { object, batch, requestIdStart: start, requestIdEnd: end } = this;
    if (object !== undefined) return object.requestId;
    if (start !== end) return batch.bytes.toString('latin1', start, end);
    return this.hasBatchItemId ? batchItemId(batch.batchId!, this.index) : undefined;
  }

  /** Whether its request id is the one that the batch gives it. */
  get hasBatchItemId(): boolean {
    const { batchId } = this.batch;
    if (batchId === undefined) return false;
    if (this.object !== undefined) return this.object.requestId === batchItemId(batchId, this.index);
    return this.requestIdStart === this.requestIdEnd && !this.params.peek;
  }

  /** Length of the client id in bytes, or in characters if the check is an object. */
  get idBytes(): number {
    return this.object?.clientId.length ?? this.idEnd - this.idStart;
  }

  /** Takes the decision. The verdict, which may be reused, is copied; the origin is kept. */
  record({ allowed, limit, remaining, retryAfterMs, resetMs, limits }: Verdict, origin: Provenance): void {
    this.error = undefined;
    this.provenance = origin;
    this.allowed = allowed;
    this.limit = limit;
    this.remaining = remaining;
    this.retryAfterMs = retryAfterMs;
    this.resetMs = resetMs;
    this.limits = limits;
    this.extras = undefined;
  }

  fail(error: TokenringError): void {
    this.error = error;
    this.provenance = undefined;
  }

  /** The decision as an object. @throws TokenringError if there is an error in its place */
  get decision(): Decision {
    const { error, provenance, extras } = this;
    if (error !== undefined) throw error;
    const decision = decisionBy(provenance!, this, this.limits);
    return extras === undefined ? decision : Object.assign(decision, extras);
  }

  private createCheck(): Check {
    const { clientId, hashHigh, hashLow, params, requestId } = this;
    const more = Object.assign({}, params, { requestId, trace: this.batch.trace });
    return createCheck({ clientId, hashHigh, hashLow }, params.rules, more);
  }
}

/**
 * The checks of one message and their decisions. The usual check is an id in the bytes of the message and its
 * parameters, which many checks share; the usual decision is a few numbers and an origin, which many decisions share.
 * So the usual check takes one object from its arrival to its answer, whether it comes alone or with others.
 */
export class CheckBatch {
  readonly items: BatchItem[] = [];
  /** The request id of the batch. Items without one of their own have one that begins with it. */
  batchId: string | undefined;
  /** The trace of the request, which those of its checks have that come as bytes. */
  trace: TraceContext | undefined = undefined;
  /** Whether the answer of any check depends on more than its rules: on the terms of a policy or a reservation. */
  hasTerms = false;

  /** @param bytes hold the ids of the checks that come as bytes, in ASCII */
  constructor(
    readonly bytes: Buffer = NO_BYTES,
    batchId?: string,
  ) {
    this.batchId = batchId;
  }

  static of(checks: readonly Check[]): CheckBatch {
    const batch = new CheckBatch();
    for (const check of checks) batch.add(check);
    return batch;
  }

  get size(): number {
    return this.items.length;
  }

  /** Gives the checks, and those that are added as bytes, the trace of their request. */
  traceUnder(trace: TraceContext | undefined): void {
    this.trace = trace;
    for (const item of this.items) if (item.isObject) item.traceUnder(trace);
  }

  /**
   * Adds a check whose client id stands in `bytes`, from `start` to before `end`, and that needs no terms.
   * @param requestIdStart where its request id begins; with `requestIdEnd` equal to it there is none
   */
  addBytes(start: number, end: number, params: CheckParams, requestIdStart = 0, requestIdEnd = 0): void {
    const item = this.push(params, undefined);
    item.idStart = start;
    item.idEnd = end;
    item.requestIdStart = requestIdStart;
    item.requestIdEnd = requestIdEnd;
    hashClientBytes(this.bytes, start, end, hash);
    item.hashHigh = hash[0]!;
    item.hashLow = hash[1]!;
  }

  add(check: Check): BatchItem {
    const item = this.push(check, check);
    item.hashHigh = check.hashHigh;
    item.hashLow = check.hashLow;
    if (check.terms !== undefined || check.reservation !== undefined) this.hasTerms = true;
    return item;
  }

  /** Adds an error where there is no check. */
  addError(error: TokenringError): void {
    this.push(NOTHING, undefined).fail(error);
  }

  private push(params: CheckParams, check: Check | undefined): BatchItem {
    const item = new BatchItem(this, this.items.length, params, check);
    this.items.push(item);
    return item;
  }
}

/** What decides batches. It never rejects: the errors of checks are in the batch. */
export interface BatchDecider {
  /** @returns `undefined` when all checks are decided at once */
  decide(batch: CheckBatch): Promise<void> | undefined;
}

/**
 * Decides one check as a batch.
 * @returns the decision, at once where the decider decides at once
 * @throws TokenringError by rejection, in place of a decision
 */
export function decideAlone(decider: BatchDecider, check: Check): Decision | Promise<Decision> {
  const batch = new CheckBatch();
  const item = batch.add(check);
  const later = decider.decide(batch);
  if (later !== undefined) return later.then(() => item.decision);
  return item.error === undefined ? item.decision : Promise.reject(item.error);
}

const NOTHING: CheckParams = createCheck({ clientId: '', hashHigh: 0, hashLow: 0 }, []);
