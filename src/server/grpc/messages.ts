import { TokenringError } from '../../lib/error.js';
import type { DescriptorEntry } from '../../policy/envoy-table.js';
import type { ByteReader } from '../../lib/byte-reader.js';
import {
  bytesTag,
  enterMessage,
  ProtobufWriter,
  readMessage,
  readTag,
  readText,
  readUint32,
  readVarint,
  skipField,
  varintTag,
} from './protobuf.js';

/**
 * The messages of `envoy.service.ratelimit.v3` and `grpc.health.v1`, by their published field numbers. Unknown fields
 * are skipped. `test/grpc/messages.test.ts` compares them with the published protocol.
 */

/** Bounds of a request. */
export const MAX_DESCRIPTORS = 32;
export const MAX_ENTRIES = 16;

export interface RateLimitRequest {
  readonly domain: string;
  readonly descriptors: readonly Descriptor[];
  /** 0 if not set. */
  readonly hitsAddend: number;
}

export interface Descriptor {
  readonly entries: readonly DescriptorEntry[];
  /** The limit that applies instead of the configured one. */
  readonly limit: LimitOverride | undefined;
  /** The hits of this descriptor, also 0; `undefined` if those of the request apply. */
  readonly hitsAddend: number | undefined;
}

export interface LimitOverride {
  readonly requestsPerUnit: number;
  readonly unit: number;
}

const [BYTES_1, BYTES_2, BYTES_3] = [bytesTag(1), bytesTag(2), bytesTag(3)];
const [VARINT_1, VARINT_2, VARINT_3] = [varintTag(1), varintTag(2), varintTag(3)];

/** @throws TokenringError `invalid_request` */
export function readRateLimitRequest(bytes: Buffer): RateLimitRequest {
  return readMessage(bytes, readRequest);
}

function readRequest(reader: ByteReader): RateLimitRequest {
  let domain = '';
  const descriptors: Descriptor[] = [];
  let hitsAddend = 0;
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === BYTES_1) domain = readText(reader);
    else if (tag === BYTES_2) {
      if (descriptors.length === MAX_DESCRIPTORS) throw tooMany('descriptors', MAX_DESCRIPTORS);
      descriptors.push(readDescriptor(reader, descriptors.length));
    } else if (tag === VARINT_3) hitsAddend = readUint32(reader);
    else skipField(tag, reader);
  }
  return { domain, descriptors, hitsAddend };
}

function readDescriptor(reader: ByteReader, place: number): Descriptor {
  const entries: DescriptorEntry[] = [];
  let limit: LimitOverride | undefined;
  let hitsAddend: number | undefined;
  const end = enterMessage(reader);
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === BYTES_1) {
      if (entries.length === MAX_ENTRIES) throw tooMany(`descriptors[${place}].entries`, MAX_ENTRIES);
      entries.push(readEntry(reader));
    } else if (tag === BYTES_2) limit = readLimit(reader, limit);
    else if (tag === BYTES_3) hitsAddend = readWrapped(reader, hitsAddend ?? 0);
    else skipField(tag, reader);
  }
  reader.end = end;
  return { entries, limit, hitsAddend };
}

function readEntry(reader: ByteReader): DescriptorEntry {
  let key = '';
  let value = '';
  const end = enterMessage(reader);
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === BYTES_1) key = readText(reader);
    else if (tag === BYTES_2) value = readText(reader);
    else skipField(tag, reader);
  }
  reader.end = end;
  return { key, value };
}

/** @param before the same field, if it came before: parsers of Protocol Buffers merge the two */
function readLimit(reader: ByteReader, before: LimitOverride | undefined): LimitOverride {
  let { requestsPerUnit, unit } = before ?? { requestsPerUnit: 0, unit: 0 };
  const end = enterMessage(reader);
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === VARINT_1) requestsPerUnit = readUint32(reader);
    else if (tag === VARINT_2) unit = readUint32(reader);
    else skipField(tag, reader);
  }
  reader.end = end;
  return { requestsPerUnit, unit };
}

/** Reads a `google.protobuf.UInt64Value`. */
function readWrapped(reader: ByteReader, before: number): number {
  let value = before;
  const end = enterMessage(reader);
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === VARINT_1) value = readVarint(reader);
    else skipField(tag, reader);
  }
  reader.end = end;
  return value;
}

function tooMany(field: string, most: number): TokenringError {
  return new TokenringError('invalid_request', { field, expected: `at most ${most} of them` });
}

/** `RateLimitResponse.Code`. */
export const OK = 1;
export const OVER_LIMIT = 2;

export interface DescriptorStatus {
  readonly code: typeof OK | typeof OVER_LIMIT;
  /** `undefined` if the descriptor has no limit. */
  readonly currentLimit: { readonly name: string; readonly requestsPerUnit: number; readonly unit: number } | undefined;
  readonly limitRemaining: number;
  readonly untilResetMs: number;
}

export interface RateLimitResponse {
  readonly overallCode: typeof OK | typeof OVER_LIMIT;
  readonly statuses: readonly DescriptorStatus[];
  /** Headers for the response of Envoy, as alternating names and values. */
  readonly responseHeaders: readonly string[];
}

const writer = new ProtobufWriter();

/** @param prefix bytes to leave free before the message */
export function writeRateLimitResponse(response: RateLimitResponse, prefix = 0): Buffer {
  const { overallCode, statuses, responseHeaders } = response;
  writer.begin(prefix);
  writer.uint(1, overallCode);
  for (const status of statuses) writeStatus(status);
  for (let i = 0; i < responseHeaders.length; i += 2) {
    const header = writer.open(3);
    writer.text(1, responseHeaders[i]!);
    writer.text(2, responseHeaders[i + 1]!);
    writer.close(header);
  }
  return writer.end();
}

function writeStatus({ code, currentLimit, limitRemaining, untilResetMs }: DescriptorStatus): void {
  const status = writer.open(2);
  writer.uint(1, code);
  if (currentLimit !== undefined) {
    const limit = writer.open(2);
    writer.uint(1, currentLimit.requestsPerUnit);
    writer.uint(2, currentLimit.unit);
    writer.text(3, currentLimit.name);
    writer.close(limit);
  }
  writer.uint(3, limitRemaining);
  if (currentLimit !== undefined) {
    const duration = writer.open(4);
    writer.uint(1, Math.floor(untilResetMs / 1_000));
    writer.uint(2, (untilResetMs % 1_000) * 1_000_000);
    writer.close(duration);
  }
  writer.close(status);
}

/** @returns the service that a `HealthCheckRequest` names; empty for the whole server */
export function readHealthCheckRequest(bytes: Buffer): string {
  return readMessage(bytes, readService);
}

function readService(reader: ByteReader): string {
  let service = '';
  while (reader.at < reader.end) {
    const tag = readTag(reader);
    if (tag === BYTES_1) service = readText(reader);
    else skipField(tag, reader);
  }
  return service;
}

/** `HealthCheckResponse.ServingStatus`. */
export const SERVING = 1;
export const NOT_SERVING = 2;
export const SERVICE_UNKNOWN = 3;

/** @param prefix bytes to leave free before the message */
export function writeHealthCheckResponse(status: number, prefix = 0): Buffer {
  writer.begin(prefix);
  writer.uint(1, status);
  return writer.end();
}
