import type { Policies } from '../../policy/active-policies.js';
import { batchItemId, MAX_BATCH_ID_BYTES, MAX_BATCH } from '../../limits/request/request.js';
import { CheckBatch } from '../../limits/decide/check-batch.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { sharedParams, type Check, type CheckParams } from '../../limits/decide/check.js';
import { TokenringError } from '../../lib/error.js';
import type { Steps } from '../../lib/turns.js';
import { KnownShapes } from '../../lib/known-shapes.js';
import { parseJson } from './json.js';
import { readBatch, readCheck } from './request.js';
import { MAX_REQUEST_ID_BYTES } from '../../limits/format/checks.js';

/** Shapes of items that are remembered, and the bytes of one. */
const MAX_SHAPES = 8;
const MAX_SHAPE_BYTES = 256;
/** Bound of the values in one item, as a whole and in its parts. One with every field and eight limits has 60. */
const MAX_ITEM_VALUES = 256;
/** Bound of the values in a body that is parsed as a whole. Only one that is not valid has so many. */
const MAX_VALUES = 4_096;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** The meaning of an item, apart from its client id and its request id. */
interface ItemShape {
  readonly params: CheckParams;
  /** Whether a request id follows, which ends the item. */
  readonly hasRequestId: boolean;
}

/** The client id of an item stands before a quote. */
class ItemShapes extends KnownShapes<ItemShape> {
  protected override findId(bytes: Buffer, at: number): boolean {
    this.idStart = at;
    this.idEnd = findIdEnd(bytes, at);
    return this.idEnd >= 0;
  }
}

/**
 * Reads the bodies of batches. Most items are equal apart from the client id, as in
 * `{"clientId":"alice","limit":10,"window":"1m"}`, so their shapes are remembered. A request id may end an item, as
 * where the SDK asks again; it differs in each of them. An item of a known shape means exactly what the general way reads, as
 * long as its ids need no escapes and no policy is involved. A test compares both.
 */
export class BatchReader {
  private readonly shapes = new ItemShapes(MAX_SHAPES, MAX_SHAPE_BYTES);

  constructor(private readonly policies: Policies) {}

  /** Begins to read a body. Never throws. */
  begin(body: Buffer): UnreadBatch {
    return new UnreadBatch(body, this.policies, this.shapes);
  }
}

/** A batch that is read in steps, so that the caller can let others in between. */
export class UnreadBatch {
  /** The checks and the errors of the items that were read, in order. */
  readonly batch: CheckBatch;
  private readonly view: DataView;
  /** Place of the next item; −1 if the body is parsed as a whole. */
  private at: number;
  /** Place where the list of items must end. */
  private readonly listEnd: number;

  constructor(
    private readonly body: Buffer,
    private readonly policies: Policies,
    private readonly shapes: ItemShapes,
  ) {
    const head = readHead(body);
    const tail = readTail(body);
    // A body without an item, and one with two request ids, is parsed as a whole: that says what is wrong with it.
    const isUsual =
      head !== undefined &&
      tail !== undefined &&
      body[head.end] !== CLOSE_BRACKET &&
      (head.batchId === undefined || tail.batchId === undefined);
    this.at = isUsual ? head.end : -1;
    this.listEnd = tail?.listEnd ?? -1;
    this.batch = new CheckBatch(body, isUsual ? (head.batchId ?? tail.batchId) : undefined);
    this.view = new DataView(body.buffer, body.byteOffset, body.length);
  }

  /** Upper bound of the number of items. */
  get maxItems(): number {
    return Math.min(MAX_BATCH, this.body.length >> 1);
  }

  /**
   * Reads the items. A step goes up to the first whose shape is new, which may take a ms. A body of 1 MiB takes up to
   * 80 ms in all.
   * @throws TokenringError for a body that is not valid; nothing may be consumed before all are read
   */
  *reading(): Steps<void> {
    const { batch, body } = this;
    if (this.at < 0) return yield* this.readingParsed();
    for (;;) {
      if (batch.size === MAX_BATCH) readBatch({ requests: Array<null>(MAX_BATCH + 1).fill(null) });
      const known = this.addKnown();
      if (!known) this.parseNext();
      const end = skipSpace(body, this.at);
      if (body[end] !== COMMA) {
        // Something follows the list. So the body is not valid, and this says why.
        if (end !== this.listEnd) readBatch(parseJson(body, MAX_VALUES));
        return;
      }
      this.at = skipSpace(body, end + 1);
      if (!known) yield;
    }
  }

  /** Reads the next item by its shape. @returns whether that is known */
  private addKnown(): boolean {
    const { body, shapes } = this;
    // An answer may depend on the name of a client that is on a list.
    if (this.policies.listsClients()) return false;
    const shape = shapes.find(body, this.view, this.at);
    if (shape === undefined) return false;
    const { idStart, idEnd, end } = shapes;
    const requestIdEnd = shape.hasRequestId ? findRequestIdEnd(body, end) : end;
    if (requestIdEnd < 0) return false;
    this.batch.addBytes(idStart, idEnd, shape.params, end, requestIdEnd);
    this.at = shape.hasRequestId ? requestIdEnd + ID_END_BYTES : end;
    return true;
  }

  /** Reads the next item in the general way. */
  private parseNext(): void {
    const { body, at } = this;
    this.at = findItemEnd(body, at);
    const check = this.add(parseItem(body.subarray(at, this.at)));
    const idStart = check === undefined ? -1 : findId(body, at);
    const idEnd = idStart < 0 ? -1 : findIdEnd(body, idStart);
    if (idEnd >= 0) this.remember(check!, body.subarray(at, idStart), body.subarray(idEnd, this.at));
  }

  private *readingParsed(): Steps<void> {
    const { requestId, requests } = readBatch(parseJson(this.body, MAX_VALUES));
    this.batch.batchId = requestId;
    for (const item of requests) {
      if (this.batch.size > 0) yield;
      this.add(item);
    }
  }

  /** @returns the check that an item asks for; `undefined` if the item is an error, which is added in its place */
  private add(item: unknown): Check | undefined {
    const { batch } = this;
    try {
      if (item instanceof TokenringError) throw item;
      const check = readCheck(item, this.policies, this.itemId(batch.size));
      batch.add(check);
      return check;
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      batch.addError(error);
      return undefined;
    }
  }

  /** The request id that the batch gives the item at `index`. */
  private itemId(index: number): string | undefined {
    const { batchId } = this.batch;
    return batchId === undefined ? undefined : batchItemId(batchId, index);
  }

  /** Remembers the shape of the item that was added last. @param after its bytes behind the client id */
  private remember(check: Check, before: Buffer, after: Buffer): void {
    const params = sharedParams(check);
    if (params === undefined) return;
    const { requestId } = check;
    const hasRequestId = requestId !== undefined && requestId !== this.itemId(this.batch.size - 1);
    const constant = hasRequestId ? withoutRequestId(after, requestId) : after;
    if (constant !== undefined) this.shapes.add(before, constant, { params, hasRequestId });
  }
}

/** The end of a usual body: that of the list, and perhaps the request id. */
const TAIL = /\]\s*(?:,\s*"requestId"\s*:\s*"([ !#-[\]-~]{1,124})"\s*)?\}\s*$/;
const MAX_TAIL_BYTES = 256;

interface Tail {
  readonly batchId: string | undefined;
  /** The place where the list must end. */
  readonly listEnd: number;
}

/** Reads the end of a body. @returns `undefined` if it is not usual */
function readTail(body: Buffer): Tail | undefined {
  const { length } = body;
  if (body[length - 1] === CLOSE_BRACE && body[length - 2] === CLOSE_BRACKET)
    return { batchId: undefined, listEnd: length - 2 };
  const start = Math.max(0, length - MAX_TAIL_BYTES);
  const found = TAIL.exec(body.toString('latin1', start));
  return found === null ? undefined : { batchId: found[1], listEnd: start + found.index };
}

/**
 * @returns the value, or the error of an item with too many values
 * @throws TokenringError for another text than JSON
 */
function parseItem(item: Buffer): unknown {
  try {
    return parseJson(item, MAX_ITEM_VALUES);
  } catch (error) {
    if (error instanceof TokenringError && error.code === 'invalid_request') return error;
    throw error;
  }
}

/** @returns the place of the comma or bracket behind the item at `start`, or the end of the body */
function findItemEnd(body: Buffer, start: number): number {
  let depth = 0;
  let at = start;
  for (; at < body.length; at += 1) {
    const byte = body[at]!;
    if (byte === QUOTE) at = findStringEnd(body, at);
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1;
    else if (depth === 0 && (byte === COMMA || byte === CLOSE_BRACKET || byte === CLOSE_BRACE)) return at;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) depth -= 1;
  }
  return Math.min(at, body.length);
}

/** @returns the place of the first byte at `at` or behind it that is no white space */
function skipSpace(body: Buffer, at: number): number {
  let next = at;
  while (isSpace(body[next])) next += 1;
  return next;
}

function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** @returns the place behind a name, its colon, and white space; −1 if another text stands at `at` */
function skipName(body: Buffer, at: number, name: string): number {
  if (body.toString('latin1', at, at + name.length) !== name) return -1;
  const colon = skipSpace(body, at + name.length);
  return body[colon] === COLON ? skipSpace(body, colon + 1) : -1;
}

interface Head {
  readonly batchId: string | undefined;
  /** The place of the first item. */
  readonly end: number;
}

/** Reads `{"requests":[` or `{"requestId":"…","requests":[`. @returns `undefined` for a body that begins otherwise */
function readHead(body: Buffer): Head | undefined {
  const brace = skipSpace(body, 0);
  if (body[brace] !== OPEN_BRACE) return undefined;
  let at = skipSpace(body, brace + 1);
  const quote = skipName(body, at, '"requestId"');
  let batchId: string | undefined;
  if (quote >= 0) {
    const end = body[quote] === QUOTE ? findIdEnd(body, quote + 1, MAX_BATCH_ID_BYTES) : -1;
    const comma = end < 0 ? -1 : skipSpace(body, end + 1);
    if (body[comma] !== COMMA) return undefined;
    batchId = body.toString('latin1', quote + 1, end);
    at = skipSpace(body, comma + 1);
  }
  const list = skipName(body, at, '"requests"');
  return list >= 0 && body[list] === OPEN_BRACKET ? { batchId, end: skipSpace(body, list + 1) } : undefined;
}

/** @returns the place of the first byte of the client id in an item that begins with it; −1 for other items */
function findId(body: Buffer, at: number): number {
  if (body[at] !== OPEN_BRACE) return -1;
  const quote = skipName(body, skipSpace(body, at + 1), '"clientId"');
  return quote >= 0 && body[quote] === QUOTE ? quote + 1 : -1;
}

/** @returns the place of the closing quote of an id in printable ASCII without escapes; −1 for other ids */
function findIdEnd(body: Buffer, start: number, maxBytes = MAX_CLIENT_ID_BYTES): number {
  const last = Math.min(body.length, start + maxBytes + 1);
  let at = start;
  for (; at < last; at += 1) {
    if (PLAIN[body[at]!] === 0) return body[at] === QUOTE && at > start ? at : -1;
  }
  return -1;
}

/** @returns the place of the closing quote of a request id that ends its item; −1 for other ids */
function findRequestIdEnd(body: Buffer, start: number): number {
  const end = findIdEnd(body, start, MAX_REQUEST_ID_BYTES);
  return end >= 0 && body[end + 1] === CLOSE_BRACE ? end : -1;
}

/** By byte: 1 for printable ASCII that stands for itself in a JSON string. */
const PLAIN = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x20 && byte <= 0x7e && byte !== QUOTE && byte !== BACKSLASH ? 1 : 0,
);

/** Bytes of `"}`. */
const ID_END_BYTES = 2;
const BEFORE_REQUEST_ID = ',"requestId":"';

/**
 * @param bytes an ending that is valid in JSON
 * @returns the part in front of the request id, if that stands for itself and ends the item; the comma in front of its
 * name makes certain that the name does not end another, as in `"a\\"requestId"`
 */
function withoutRequestId(bytes: Buffer, requestId: string): Buffer | undefined {
  const last = Buffer.from(`${BEFORE_REQUEST_ID}${requestId}"}`);
  const start = bytes.length - last.length;
  if (start < 0 || !bytes.subarray(start).equals(last)) return undefined;
  const idStart = start + BEFORE_REQUEST_ID.length;
  return findRequestIdEnd(bytes, idStart) < 0 ? undefined : bytes.subarray(0, idStart);
}

/** @returns the place of the quote that closes the string whose opening quote is at `start`, or the end of the body */
function findStringEnd(body: Buffer, start: number): number {
  for (let at = body.indexOf(QUOTE, start + 1); at >= 0; at = body.indexOf(QUOTE, at + 1)) {
    let first = at;
    while (body[first - 1] === BACKSLASH) first -= 1;
    // An odd number of backslashes escapes the quote.
    if ((at - first) % 2 === 0) return at;
  }
  return body.length;
}
