import type { HttpErrorCode, TokenringError } from '../../lib/error.js';

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
export function errorLine(error: TokenringError | { readonly text: string }): string {
  const text = 'text' in error ? error.text : `${codeOf(error)} ${adviceOf(error)}`;
  const line = text.slice(0, MAX_ERROR_LENGTH).replace(/[^ -~]/g, '?');
  return `-${line}\r\n`;
}

function adviceOf(error: TokenringError): string {
  // The text that clients compare with.
  if (error.code === 'unauthorized') return 'Authentication required.';
  if (error.code === 'forbidden') return `the connection may not use this command; use ${error.expected}`;
  return error.detail === '' ? error.message : error.detail;
}
