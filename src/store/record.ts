import type { ClientSnapshot } from '../state/client-snapshot.js';
import type { LastingClient } from './store.js';
import { agedBy, joinAged } from '../limits/bucket/snapshot.js';
import type { LastingState, Snapshot } from '../limits/bucket/snapshot.js';
import { MalformedMessage, malformed } from '../lib/byte-reader.js';
import { parseWire, readList, readWhole } from '../protocol/format/wire.js';
import { encodeClients, readClients } from '../protocol/format/clients.js';

/** Version of the form below. A program that finds another one in a store does not start. */
export const FORMAT = 1;

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

/** Encodes `[format, atMs, restAtMs, rules, clients]`: a client in the form of `protocol/format/clients.ts`, with its times. */
function encodeRecord({ clientId, buckets, atMs, restAtMs }: StoredRecord): string {
  return JSON.stringify([FORMAT, atMs, restAtMs, ...encodeClients([[clientId, buckets]])]);
}

/** @throws MalformedMessage for anything but a record of this format */
export function readRecord(text: string | Buffer): StoredRecord {
  const wire = readList(parseWire(typeof text === 'string' ? Buffer.from(text) : text), 5, 5, 'record');
  readWhole(wire[0], FORMAT, FORMAT, 'format');
  const [client, more] = readClients(wire[3], wire[4]);
  if (client === undefined || more !== undefined) throw malformed('record', 'one client');
  const atMs = readWhole(wire[1], 0, MAX_WALL_MS, 'time');
  return { clientId: client[0], buckets: client[1], atMs, restAtMs: readWhole(wire[2], 0, MAX_WALL_MS, 'end') };
}

/** @returns `undefined` for anything but a record of this format */
export function tryRecord(text: string | Buffer): StoredRecord | undefined {
  try {
    return readRecord(text);
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
  readonly text: string;
  /** Time until the record expires: whole ms from now, at least 1. */
  readonly restMs: number;
}

/**
 * Merges a client's state at `nowMs` into the stored record. The stricter state wins.
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
  const text = encodeRecord({ clientId, buckets: snapshots, atMs: stampMs, restAtMs: stampMs + keptMs });
  return { text, restMs: keptMs };
}

/** A thousand years. */
const MAX_REST_MS = 1_000 * 366 * 86_400_000;
