/** Longest request id of a batch, in bytes. With the index of an item, it is no longer than one of a request. */
export const MAX_BATCH_ID_BYTES = 124;

/** The request id of an item that has none of its own, in a batch that has one. @param index from 0 */
export function batchItemId(batchId: string, index: number): string {
  return `${batchId}#${index}`;
}

interface BatchItem {
  readonly batchId: string;
  readonly index: number;
}

/** A batch has at most 1,000 items. */
const ITEM_ID = /^(.+)#(0|[1-9]\d{0,2})$/s;

/** Reads what `batchItemId` writes. @returns `undefined` for any other request id */
export function readBatchItemId(requestId: string): BatchItem | undefined {
  // Most ids have no index. To find that out takes less than a regular expression.
  if (!requestId.includes('#')) return undefined;
  const found = ITEM_ID.exec(requestId);
  return found === null ? undefined : { batchId: found[1]!, index: Number(found[2]) };
}
