import { ByteReader, malformed, MalformedMessage } from '../lib/byte-reader.js';
import { ByteWriter } from '../lib/byte-writer.js';
import { agedBy, joinAged, type LastingState, type Snapshot } from '../limits/bucket/snapshot.js';
import { decodeClients, encodeClients } from '../state/client-format.js';
import type { ClientSnapshot } from '../state/client.js';
import type { LastingClient } from './store.js';

/** Version of the records below, and their first byte. A program that finds another one in a store does not start. */
export const FORMAT = 2;

/** Bound of wall clock times. */
const MAX_WALL_MS = 2 ** 52;

/** A client in a store: its buckets at a time of the store's wall clock. */
export interface StoredRecord {
  readonly clientId: string;
  readonly buckets: readonly Snapshot[];
  readonly atMs: number;
  /** Time at which the record expires, as all its buckets are full again. */
  readonly restAtMs: number;
}

/** Encodes the format, both times, and the client in the form of `state/client-format.ts`. */
function encodeRecord({ clientId, buckets, atMs, restAtMs }: StoredRecord): Buffer {
  const out = new ByteWriter(0, 256);
  out.byte(FORMAT);
  out.whole(atMs);
  out.whole(restAtMs);
  out.append(encodeClients([[clientId, buckets]]));
  return out.copy();
}

/** @throws MalformedMessage for anything but a record of this format */
export function readRecord(bytes: Buffer): StoredRecord {
  const from = new ByteReader(bytes);
  if (from.byte('format') !== FORMAT) throw malformed('format', String(FORMAT));
  const atMs = from.whole(0, MAX_WALL_MS, 'time');
  const restAtMs = from.whole(0, MAX_WALL_MS, 'end');
  const [client, more] = decodeClients(from.remaining());
  if (client === undefined || more !== undefined) throw malformed('record', 'one client');
  return { clientId: client[0], buckets: client[1], atMs, restAtMs };
}

/** @returns `undefined` for anything but a record of this format */
export function tryRecord(bytes: Buffer): StoredRecord | undefined {
  try {
    return readRecord(bytes);
  } catch (error) {
    if (error instanceof MalformedMessage) return undefined;
    throw error;
  }
}

/** Returns the client at `nowMs`. A clock that went back refills nothing. */
export function recall({ clientId, buckets, atMs }: StoredRecord, nowMs: number): ClientSnapshot {
  return [clientId, agedBy(buckets, Math.max(0, nowMs - atMs))];
}

/** A record and the time for which the store keeps it. */
interface NextRecord {
  readonly bytes: Buffer;
  /** Time until the record expires: whole ms from now, at least 1. */
  readonly restMs: number;
}

/**
 * Merges a client's state at `nowMs` into the stored record. The tighter state wins.
 * @param stampMs time of the new record; later than `nowMs` when the current time is uncertain
 * @returns `undefined` when no debt of either is left
 */
export function nextRecord(
  stored: StoredRecord | undefined,
  [clientId, later]: LastingClient,
  nowMs: number,
  stampMs = nowMs,
): NextRecord | undefined {
  const elapsedMs = stored === undefined ? 0 : Math.max(0, nowMs - stored.atMs);
  const { snapshots, resetMs }: LastingState = joinAged(stored?.buckets ?? [], elapsedMs, later);
  if (snapshots.length === 0) return undefined;
  // A debt that decays at one token a year may end beyond any calendar.
  const keptMs = Math.min(Math.max(1, resetMs), MAX_REST_MS);
  const bytes = encodeRecord({ clientId, buckets: snapshots, atMs: stampMs, restAtMs: stampMs + keptMs });
  return { bytes, restMs: keptMs };
}

/** A thousand years. */
const MAX_REST_MS = 1_000 * 366 * 86_400_000;
