import { MAX_ENTRIES } from './policy-document.js';

/** Bytes of policies and of the policy file's copy. `bytes` is their size as JSON. */
export function policyHeapBytes(bytes: number, entries: number): number {
  return POLICY_BYTE_BYTES * bytes + POLICY_ENTRY_BYTES * entries;
}

/**
 * Returns the size as JSON of the policies that fit into `heapBytes`, in as many entries as a document may have. It is
 * at least 48 KiB, which has few entries.
 */
export function policyBytesIn(heapBytes: number): number {
  return Math.max(48 * 1024, Math.floor((heapBytes - POLICY_ENTRY_BYTES * MAX_ENTRIES) / POLICY_BYTE_BYTES));
}

/** A byte of policies as JSON, and what an entry takes beyond its bytes. */
const POLICY_BYTE_BYTES = 7;

const POLICY_ENTRY_BYTES = 200;
