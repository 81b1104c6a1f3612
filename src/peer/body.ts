import type { IncomingMessage } from 'node:http';

interface BodyReader {
  /**
   * Collects the body of a request and calls one of the two once; neither when the connection breaks first, as there is
   * nobody left to answer.
   */
  read(req: IncomingMessage, done: (body: Buffer) => void, failed: (reason: 'too_large' | 'busy') => void): void;
}

/**
 * @param maxBytes of one body
 * @param maxArriving of all bodies that have not arrived in full: who begins many and ends none cannot use up the memory
 */
export function createBodyReader({ maxBytes, maxArriving }: { maxBytes: number; maxArriving: number }): BodyReader {
  let arriving = 0;
  return {
    read(req, done, failed) {
      let first: Buffer | undefined;
      let rest: Buffer[] | undefined;
      let bytes = 0;
      const release = (): void => {
        arriving -= bytes;
        bytes = 0;
      };
      const fail = (reason: 'too_large' | 'busy'): void => {
        req.removeAllListeners('data').removeAllListeners('end');
        release();
        failed(reason);
      };
      if (Number(req.headers['content-length'] ?? 0) > maxBytes) return failed('too_large');
      req.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        arriving += chunk.length;
        if (bytes > maxBytes) fail('too_large');
        else if (arriving > maxArriving) fail('busy');
        else if (first === undefined) first = chunk;
        else (rest ??= []).push(chunk);
      });
      req.on('end', () => {
        release();
        done(first === undefined ? Buffer.alloc(0) : rest === undefined ? first : Buffer.concat([first, ...rest]));
      });
      // A broken connection is the other side's news, not an error of ours.
      req.on('error', release);
    },
  };
}
