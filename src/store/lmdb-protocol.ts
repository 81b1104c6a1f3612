import type { WallTime } from './wall-time.js';

/**
 * Messages between a node and the child process that has its LMDB file open. The node sends one request at a time.
 * Clients have the form of `state/client-format.ts`. Times are wall clock times of the machine.
 */
export type Request =
  /** Opens the file, or creates it. */
  | { readonly op: 'open'; readonly path: string }
  /** Reads the next chunk of clients after the last one, as of `nowMs`. */
  | { readonly op: 'load'; readonly after: string | undefined; readonly nowMs: number }
  /** Merges clients, as of `time`, into the file. Removes forgotten clients that were not written later. */
  | {
      readonly op: 'write';
      readonly time: WallTime;
      readonly clients: Uint8Array;
      readonly forgotten: readonly string[];
      /** Other members of the ring; `undefined`: keeps those in the file. */
      readonly members: readonly string[] | undefined;
    }
  /** Removes expired records among the next ones. */
  | { readonly op: 'sweep'; readonly nowMs: number };

export type Reply =
  | { readonly kind: 'opened'; readonly members: readonly string[]; readonly warnings: readonly string[] }
  | {
      readonly kind: 'loaded';
      readonly clients: Uint8Array;
      /** Where the next chunk begins; `undefined` at the end of the file. */
      readonly after: string | undefined;
      readonly unreadable: number;
    }
  | { readonly kind: 'written'; readonly unreadable: number }
  | { readonly kind: 'swept' }
  | { readonly kind: 'failed'; readonly failure: Failure; readonly reason: string };

/**
 * `corrupt`: the file is not an LMDB file, or is damaged. `gone`: it was removed or replaced. `format`: another version
 * of this program wrote it. `other`: anything else, such as no space or no permission.
 */
export type Failure = 'corrupt' | 'gone' | 'format' | 'other';
