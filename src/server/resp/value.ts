import { TokenringError, type HttpErrorCode } from '../../lib/error.js';
import { ByteWriter } from '../../lib/byte-writer.js';

/** The versions of the protocol. A connection begins with 2, and chooses with `HELLO`. */
export type Protocol = 2 | 3;

/** A value with names. RESP2 has none, so a client of RESP2 gets names and values in turn. */
export class RespMap {
  constructor(readonly fields: readonly (readonly [name: string, value: Value])[]) {}
}

/** A text that is no data, as `OK`. In ASCII, without line ends. */
export class Status {
  constructor(readonly text: string) {}
}

/** A constant answer, which is written once for each version of the protocol. */
export class Constant {
  private readonly texts = new Map<Protocol, string>();

  constructor(private readonly value: Value) {}

  text(protocol: Protocol): string {
    let text = this.texts.get(protocol);
    if (text === undefined) {
      const out = new ByteWriter(0, 256);
      writeValue(out, this.value, protocol);
      this.texts.set(protocol, (text = out.written().toString('latin1')));
    }
    return text;
  }
}

/** An answer to a command. Texts become bulk strings; a TokenringError becomes an error. */
export type Value =
  string | number | boolean | null | Status | RespMap | Constant | TokenringError | ErrorText | readonly Value[];

/** An error of the protocol itself; it begins with its code. */
export class ErrorText {
  constructor(readonly text: string) {}
}

export const OK = new Status('OK');

export function wrongArity(name: string): ErrorText {
  return new ErrorText(`ERR wrong number of arguments for '${name.toLowerCase()}' command`);
}

/** Writes one answer. Whole numbers only; RESP2 has neither booleans nor names, and another null. */
export function writeValue(out: ByteWriter, value: Value, protocol: Protocol): void {
  if (typeof value === 'string') return writeBulk(out, value);
  if (typeof value === 'number') return writeAscii(out, `:${value}\r\n`);
  if (typeof value === 'boolean')
    return writeAscii(out, protocol === 3 ? `#${value ? 't' : 'f'}\r\n` : `:${value ? 1 : 0}\r\n`);
  if (value === null) return writeAscii(out, protocol === 3 ? '_\r\n' : '$-1\r\n');
  if (value instanceof Constant) return writeAscii(out, value.text(protocol));
  if (value instanceof Status) return writeAscii(out, `+${value.text}\r\n`);
  if (value instanceof TokenringError || value instanceof ErrorText) return writeAscii(out, errorLine(value));
  if (value instanceof RespMap) {
    const { length } = value.fields;
    writeAscii(out, protocol === 3 ? `%${length}\r\n` : `*${2 * length}\r\n`);
    for (const [name, field] of value.fields) {
      writeBulk(out, name);
      writeValue(out, field, protocol);
    }
    return;
  }
  writeArrayHead(out, value.length);
  for (const item of value) writeValue(out, item, protocol);
}

/** Writes the beginning of an array, before its items. */
export function writeArrayHead(out: ByteWriter, length: number): void {
  writeAscii(out, `*${length}\r\n`);
}

function writeBulk(out: ByteWriter, text: string): void {
  const bytes = Buffer.byteLength(text);
  out.reserve(bytes + 16);
  out.ascii(`$${bytes}\r\n`);
  out.utf8(text);
  out.ascii('\r\n');
}

function writeAscii(out: ByteWriter, ascii: string): void {
  out.reserve(ascii.length);
  out.ascii(ascii);
}

/** Bound of the text of an error. */
const MAX_ERROR_LENGTH = 512;

/**
 * The errors that have a name in Redis, which its clients know. All others have the names of the HTTP API in capital
 * letters.
 */
const REDIS_CODES: Partial<Record<HttpErrorCode, string>> = { unauthorized: 'NOAUTH', forbidden: 'NOPERM' };

/** Returns the first word of an error. Clients branch on it. */
function codeOf({ code }: TokenringError): string {
  return REDIS_CODES[code as HttpErrorCode] ?? code.toUpperCase();
}

/** Returns an error as a line of the protocol: printable ASCII, so that no text of a caller ends the line. */
function errorLine(error: TokenringError | ErrorText): string {
  const text = error instanceof ErrorText ? error.text : `${codeOf(error)} ${adviceOf(error)}`;
  const line = text.slice(0, MAX_ERROR_LENGTH).replace(/[^ -~]/g, '?');
  return `-${line}\r\n`;
}

function adviceOf(error: TokenringError): string {
  // The text that clients compare with.
  if (error.code === 'unauthorized') return 'Authentication required.';
  if (error.code === 'forbidden') return `the connection may not use this command; use ${error.expected}`;
  return error.detail === '' ? error.message : error.detail;
}
