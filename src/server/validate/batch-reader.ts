import type { Policies } from '../../policy/active-policies.js';
import { batchItemId, MAX_BATCH_ID_BYTES } from '../../limits/batch-item-id.js';
import { CheckBatch } from '../../limits/decide/check-batch.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import type { Check, CheckParams } from '../../limits/decide/decide.js';
import { TokenringError } from '../../lib/error.js';
import { MAX_BATCH } from '../../limits/request/request.js';
import { parseJson } from './json.js';
import { standsAt, textOf, type Text } from './known-text.js';
import { readBatch, readCheck } from './request.js';
import { MAX_REQUEST_ID_BYTES } from '../../limits/format/checks.js';

/** Endings of items that are remembered. Callers ask with a few rules again and again. */
const MAX_ENDINGS = 8;
/** Longest ending that is remembered, in bytes. */
const MAX_ENDING_BYTES = 256;
/** Items without a known ending that are read in one turn of the event loop. With more, `readItems` reads the body. */
const MAX_PARSED = 8;
/** Longest such item. No valid one is longer, unless by white space or escapes. */
const MAX_ITEM_BYTES = 8_192;
/** `{"clientId":"a","limit":1,"window":1},` has 38 bytes. `readItems` reads a body of shorter items. */
const MIN_ITEM_BYTES = 38;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/**
 * The part of an item behind the client id, and the meaning of that part. It begins with the closing quote. It ends
 * with the closing brace, or in front of the request id, if that is the last field.
 */
interface Ending {
  readonly text: Text;
  readonly params: CheckParams;
  readonly hasRequestId: boolean;
}

/** Reads the body of a batch without a string or an object for each item. */
interface BatchReader {
  /**
   * @returns the checks and the errors of items, in order; `undefined` for a body that `readItems` must read, because
   * it is not valid or not usual
   */
  read(body: Buffer): CheckBatch | undefined;
}

/**
 * Most items of a batch are equal apart from the client id, as in `{"clientId":"alice","limit":10,"window":"1m"}`. The
 * reader parses such an item once, in the general way. It remembers what the bytes behind the id asked, and recognises
 * them in the items that follow. A request id may end an item, as where the SDK asks again; it differs in each of them.
 * The rest of an item does not depend on its id, as long as the id begins the item, consists of printable ASCII without
 * escapes, and no policy is involved. So every item means exactly what the general way reads, which a test compares.
 */
export function createBatchReader(policies: Policies): BatchReader {
  /** The last used comes first. */
  const endings: Ending[] = [];

  /** @returns what the item asks whose id is closed by the quote at `at`; `undefined` if its ending is not known */
  function recall(body: DataView, at: number): Ending | undefined {
    for (let i = 0; i < endings.length; i += 1) {
      const ending = endings[i]!;
      if (!standsAt(body, at, ending.text)) continue;
      if (i > 0) {
        endings.splice(i, 1);
        endings.unshift(ending);
      }
      return ending;
    }
    return undefined;
  }

  /** @param itemId the request id that the batch gives the item */
  function remember(bytes: Buffer, check: Check, itemId: string | undefined): void {
    const { requestId, reservation, terms, rules, cost, peek, replicated } = check;
    if (reservation !== undefined || terms !== undefined) return;
    const own = requestId === itemId ? undefined : requestId;
    const hasRequestId = own !== undefined;
    const constant = hasRequestId ? withoutRequestId(bytes, own) : bytes;
    if (constant === undefined || constant.length > MAX_ENDING_BYTES) return;
    const text = textOf(constant);
    endings.unshift({ text, params: { rules, cost, peek, replicated, reservation, terms }, hasRequestId });
    if (endings.length > MAX_ENDINGS) endings.pop();
  }

  /**
   * Reads an item in the general way.
   * @returns false if it is no JSON, or not the JSON of an object
   */
  function parseItem(batch: CheckBatch, start: number, idEnd: number, end: number): boolean {
    const { bytes } = batch;
    let item: unknown;
    try {
      item = parseJson(bytes.subarray(start, end));
    } catch {
      return false;
    }
    try {
      const { batchId } = batch;
      const itemId = batchId === undefined ? undefined : batchItemId(batchId, batch.size);
      const check = readCheck(item, policies, itemId);
      batch.add(check);
      if (idEnd > 0) remember(bytes.subarray(idEnd, end), check, itemId);
    } catch (error) {
      if (!(error instanceof TokenringError)) throw error;
      batch.addError(error);
    }
    return true;
  }

  return {
    read(body) {
      // An answer may depend on the name of a client that is on a list.
      if (policies.listsClients()) return undefined;
      const view = new DataView(body.buffer, body.byteOffset, body.length);
      const head = readHead(body, view);
      if (head === undefined) return undefined;
      const capacity = Math.min(MAX_BATCH, Math.ceil(body.length / MIN_ITEM_BYTES));
      const batch = new CheckBatch(body, head.batchId);
      let at = head.end;
      let parsed = 0;
      for (;;) {
        const idStart = findId(body, view, at);
        const idEnd = idStart < 0 ? -1 : findIdEnd(body, idStart);
        const ending = idEnd < 0 ? undefined : recall(view, idEnd);
        if (batch.size === capacity) return undefined;
        let end = -1;
        if (ending !== undefined) {
          const constantEnd = idEnd + ending.text.length;
          const requestIdEnd = ending.hasRequestId ? findRequestIdEnd(body, constantEnd) : constantEnd;
          if (requestIdEnd >= 0) {
            batch.addBytes(idStart, idEnd, ending.params, constantEnd, requestIdEnd);
            end = ending.hasRequestId ? requestIdEnd + ID_END_BYTES : constantEnd;
          }
        }
        if (end < 0) {
          end = findObjectEnd(body, at);
          if (end < 0 || end - at > MAX_ITEM_BYTES || parsed === MAX_PARSED || !parseItem(batch, at, idEnd, end))
            return undefined;
          parsed += 1;
        }
        at = skipSpace(body, end);
        if (body[at] !== COMMA) break;
        at = skipSpace(body, at + 1);
      }
      return isEnd(body, at) ? batch : undefined;
    },
  };
}

/** Bound of the values in one item, as a whole and in its parts. One with every field and eight limits has 60. */
const MAX_ITEM_VALUES = 256;
/** Bound of the values in a body that is not just a list of `requests`, and so not valid. It is parsed to say why. */
const MAX_VALUES = 4_096;

/** The items of a batch, to be parsed one by one. */
export interface BatchItems {
  /** Upper bound of their number. */
  readonly most: number;
  /** The request id of the batch. Known once the first item is read. */
  readonly batchId: string | undefined;
  /**
   * An item with too many values is a TokenringError.
   * @throws TokenringError from `next`, for a body that is not valid; nothing may be consumed before the end is reached
   */
  readonly items: Generator<unknown, void>;
}

/**
 * Parses the items of any batch one by one, so that the caller can let others in between: parsed as a whole, a body of
 * 1 MiB takes up to 80 ms.
 */
export function readItems(body: Buffer): BatchItems {
  const tail = readTail(body);
  const isUsual = tail !== undefined || endsWithList(body);
  const begin = isUsual ? readHead(body, new DataView(body.buffer, body.byteOffset, body.length)) : undefined;
  // Two request ids are a mistake, which `readBatch` names.
  const head = begin?.batchId !== undefined && tail !== undefined ? undefined : begin;
  const batch = {
    most: Math.min(MAX_BATCH, body.length >> 1),
    batchId: head?.batchId ?? tail?.batchId,
    items: items(),
  };

  function* items(): Generator<unknown, void> {
    // Also a body without an item: `readBatch` says what is wrong with it.
    if (head === undefined || body[head.end] === CLOSE_BRACKET) {
      const { requestId, requests } = readBatch(parseJson(body, MAX_VALUES));
      batch.batchId = requestId;
      yield* requests;
    } else yield* itemsOf(body, head.end, tail?.listEnd);
  }

  return batch;
}

/** The end of a body whose last field is the request id. */
const TAIL = /\]\s*,\s*"requestId"\s*:\s*"([ !#-[\]-~]{1,124})"\s*\}\s*$/;
const MAX_TAIL_BYTES = 256;

/** @returns the request id behind the list, and the place where the list must then end */
function readTail(body: Buffer): { readonly batchId: string; readonly listEnd: number } | undefined {
  const start = Math.max(0, body.length - MAX_TAIL_BYTES);
  const found = TAIL.exec(body.toString('latin1', start));
  return found === null ? undefined : { batchId: found[1]!, listEnd: start + found.index };
}

/** Whether nothing follows the last list of the body. */
function endsWithList(body: Buffer): boolean {
  return /\]\s*\}\s*$/.test(body.toString('latin1', Math.max(0, body.length - MAX_TAIL_BYTES)));
}

/**
 * @param first place of the first item
 * @param listEnd place where the list must end; `undefined`: where the body ends
 */
function* itemsOf(body: Buffer, first: number, listEnd: number | undefined): Generator<unknown, void> {
  let at = first;
  for (let count = 1; ; count += 1) {
    if (count > MAX_BATCH) readBatch({ requests: Array<null>(count).fill(null) });
    const end = findItemEnd(body, at);
    yield parseBounded(body.subarray(at, end));
    if (body[end] !== COMMA) {
      // Something follows the list. So the body is not valid, and this says why.
      if (listEnd === undefined ? !isEnd(body, end) : end !== listEnd) readBatch(parseJson(body, MAX_VALUES));
      return;
    }
    at = end + 1;
  }
}

/** @returns the value, or the error of an item with too many. @throws TokenringError for another text than JSON */
function parseBounded(item: Buffer): unknown {
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
function skipName(body: Buffer, view: DataView, at: number, name: Text): number {
  if (!standsAt(view, at, name)) return -1;
  const colon = skipSpace(body, at + name.length);
  return body[colon] === COLON ? skipSpace(body, colon + 1) : -1;
}

const REQUESTS = textOf(Buffer.from('"requests"'));
const REQUEST_ID = textOf(Buffer.from('"requestId"'));
const CLIENT_ID = textOf(Buffer.from('"clientId"'));

interface Head {
  readonly batchId: string | undefined;
  /** The place of the first item. */
  readonly end: number;
}

/** Reads `{"requests":[` or `{"requestId":"…","requests":[`. @returns `undefined` for a body that begins otherwise */
function readHead(body: Buffer, view: DataView): Head | undefined {
  const brace = skipSpace(body, 0);
  if (body[brace] !== OPEN_BRACE) return undefined;
  let at = skipSpace(body, brace + 1);
  const quote = skipName(body, view, at, REQUEST_ID);
  let batchId: string | undefined;
  if (quote >= 0) {
    const end = body[quote] === QUOTE ? findIdEnd(body, quote + 1, MAX_BATCH_ID_BYTES) : -1;
    const comma = end < 0 ? -1 : skipSpace(body, end + 1);
    if (body[comma] !== COMMA) return undefined;
    batchId = body.toString('latin1', quote + 1, end);
    at = skipSpace(body, comma + 1);
  }
  const list = skipName(body, view, at, REQUESTS);
  return list >= 0 && body[list] === OPEN_BRACKET ? { batchId, end: skipSpace(body, list + 1) } : undefined;
}

/** @returns whether the list and the body end at `at` */
function isEnd(body: Buffer, at: number): boolean {
  if (body[at] !== CLOSE_BRACKET) return false;
  const brace = skipSpace(body, at + 1);
  return body[brace] === CLOSE_BRACE && skipSpace(body, brace + 1) === body.length;
}

/** @returns the place of the first byte of the client id in an item that begins with it; −1 for other items */
function findId(body: Buffer, view: DataView, at: number): number {
  if (body[at] !== OPEN_BRACE) return -1;
  const quote = skipName(body, view, skipSpace(body, at + 1), CLIENT_ID);
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

/** @returns the place behind the brace that closes the object at `at`; −1 if there is none. Valid JSON has one. */
function findObjectEnd(body: Buffer, start: number): number {
  if (body[start] !== OPEN_BRACE) return -1;
  let depth = 0;
  for (let at = start; at < body.length; at += 1) {
    const byte = body[at]!;
    if (byte === QUOTE) at = findStringEnd(body, at);
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) depth += 1;
    else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      depth -= 1;
      if (depth === 0) return at + 1;
    }
  }
  return -1;
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
