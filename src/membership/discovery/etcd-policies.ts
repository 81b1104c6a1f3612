import { promisify } from 'node:util';
import { gunzipSync, gzip } from 'node:zlib';
import type { StoredPolicies } from '../registry.js';
import { NO_DOCUMENT, type PolicyDocument } from '../../policy/policy-document.js';
import { readWritten, writtenOf } from '../../policy/policy-file.js';
import type { KeyValue } from './etcd-wire.js';

/**
 * Format of the policy document, which is the value of one key: `{"format":1,"version":…,"entries":[…]}`. A large
 * document is compressed with gzip. A change of any number of entries is thus one write with one comparison, and the
 * document is valid as a whole or not at all.
 */
const FORMAT = 1;
/** Largest document that is stored without compression, so that people can read small documents with etcdctl. */
const MAX_PLAIN_BYTES = 64 * 1024;
/**
 * Bound of a stored document. Etcd accepts requests of 1.5 MiB (`--max-request-bytes`). The key, its comparison, and
 * the frame take less than 16 KiB.
 */
export const MAX_DOCUMENT_BYTES = 1.5 * 1024 * 1024 - 16 * 1024;
/** Bound of a document after decompression. Valid documents are smaller. */
const MAX_UNPACKED_BYTES = 64 * 1024 * 1024;

const pack = promisify(gzip);

export async function encodeDocument(document: PolicyDocument): Promise<Buffer> {
  const text = Buffer.from(JSON.stringify({ format: FORMAT, ...writtenOf(document) }));
  return text.length > MAX_PLAIN_BYTES ? pack(text) : text;
}

/** @param kv `undefined` if no document is stored */
export function decodePolicies(kv: KeyValue | undefined): StoredPolicies {
  if (kv === undefined) return { kind: 'document', revision: 0, document: NO_DOCUMENT };
  const revision = Number(kv.mod_revision);
  try {
    const bytes = Buffer.from(kv.value ?? '', 'base64');
    const isPacked = bytes[0] === 0x1f && bytes[1] === 0x8b;
    const text = isPacked ? gunzipSync(bytes, { maxOutputLength: MAX_UNPACKED_BYTES }) : bytes;
    return { kind: 'document', revision, document: documentIn(text.toString('utf8')) };
  } catch (error) {
    const key = Buffer.from(kv.key, 'base64').toString('utf8');
    return { kind: 'unreadable', revision, reason: `${key}: ${(error as Error).message}` };
  }
}

function documentIn(text: string): PolicyDocument {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new Error('not JSON', { cause });
  }
  const format = typeof value === 'object' && value !== null ? (value as { format?: unknown }).format : undefined;
  if (format !== FORMAT) throw new Error(`format ${JSON.stringify(format ?? null).slice(0, 20)}, expected ${FORMAT}`);
  return readWritten(value);
}
