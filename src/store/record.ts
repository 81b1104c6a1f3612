import type { ClientSnapshot } from '../cluster/messages.js';
import type { LastingClient } from '../cluster/ports.js';
import { agedBy, joinAged } from '../core/snapshot.js';
import type { LastingState, Snapshot } from '../core/snapshot.js';
import { MalformedMessage, malformed, parseWire, readList, readWhole } from '../wire/wire.js';
import { encodeClients, readClients } from '../wire/clients.js';

/** Of the form below. A program that finds another one in a store does not start. */
export const FORMAT = 1;

/** Later than any wall clock will say. */
const MAX_WALL_MS = 2 ** 52;

/** A client as it is stored: what it owed at a time of the store's wall clock. */
export interface StoredRecord {
  readonly clientId: string;
  readonly buckets: readonly Snapshot[];
  readonly atMs: number;
  /** When nothing is left of it. */
  readonly restAtMs: number;
}

/**
 * `[format, atMs, restAtMs, rules, clients]`: a client as it goes to other nodes (see `wire-clients.ts`), with a time.
 * @param restAtMs it leaves the store then
 */
function encodeRecord({ clientId, buckets, atMs, restAtMs }: StoredRecord): string {
  return JSON.stringify([FORMAT, atMs, restAtMs, ...encodeClients([[clientId, buckets]])]);
}

/** @throws MalformedMessage for what is no record of this format */
export function readRecord(text: string | Buffer): StoredRecord {
  const wire = readList(parseWire(typeof text === 'string' ? Buffer.from(text) : text), 5, 5, 'record');
  readWhole(wire[0], FORMAT, FORMAT, 'format');
  const [client, more] = readClients(wire[3], wire[4]);
  if (client === undefined || more !== undefined) throw malformed('record', 'one client');
  const atMs = readWhole(wire[1], 0, MAX_WALL_MS, 'time');
  return { clientId: client[0], buckets: client[1], atMs, restAtMs: readWhole(wire[2], 0, MAX_WALL_MS, 'end') };
}

/** What `read` gives, or `undefined` for what is no record of this format. */
export function tryRecord(text: string | Buffer): StoredRecord | undefined {
  try {
    return readRecord(text);
  } catch (error) {
    if (error instanceof MalformedMessage) return undefined;
    throw error;
  }
}

/** What is left of a record at `nowMs`. A clock that went back refills nothing. */
export function recall({ clientId, buckets, atMs }: StoredRecord, nowMs: number): ClientSnapshot {
  return [clientId, agedBy(buckets, Math.max(0, nowMs - atMs))];
}

/** A record, and how long it is to be kept. */
interface NextRecord {
  readonly text: string;
  /** Whole ms from `nowMs`, at least 1. */
  readonly restMs: number;
}

/**
 * The record in which a client's state of `nowMs` is joined into the one that is stored: the stricter stands.
 * @returns `undefined` when nothing of either is left
 */
export function nextRecord(
  stored: StoredRecord | undefined,
  [clientId, later]: LastingClient,
  nowMs: number,
): NextRecord | undefined {
  const elapsedMs = stored === undefined ? 0 : Math.max(0, nowMs - stored.atMs);
  const { snapshots, resetMs }: LastingState = joinAged(stored?.buckets ?? [], elapsedMs, later);
  if (snapshots.length === 0) return undefined;
  // A rest that ends beyond any calendar, of a debt that decays at one token a year, is cut to what can be counted.
  const keptMs = Math.min(Math.max(1, resetMs), MAX_REST_MS);
  const text = encodeRecord({ clientId, buckets: snapshots, atMs: nowMs, restAtMs: nowMs + keptMs });
  return { text, restMs: keptMs };
}

/** A thousand years. */
const MAX_REST_MS = 1_000 * 366 * 86_400_000;
