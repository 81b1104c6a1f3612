/**
 * What a node asks of the process that keeps its LMDB file, one at a time, and what comes back. Clients go in the form of
 * `wire/clients.ts`; times are of the machine's wall clock.
 */
export type Ask =
  /** Opens the file, and makes it if there is none. */
  | { readonly op: 'open'; readonly path: string }
  /** The next chunk of records after a client, all as owed at `nowMs`. */
  | { readonly op: 'load'; readonly after: string | undefined; readonly nowMs: number }
  /** Joins clients that owed this at `atMs` into the file. Removes those forgotten that were not written after it. */
  | {
      readonly op: 'write';
      readonly atMs: number;
      readonly rules: unknown[][];
      readonly clients: unknown[][];
      readonly forgotten: readonly string[];
      /** Of the ring at that time; those known before, where there are none. */
      readonly members: readonly string[] | undefined;
    };

export type Told =
  | { readonly kind: 'opened'; readonly members: readonly string[] }
  | {
      readonly kind: 'loaded';
      readonly rules: unknown[][];
      readonly clients: unknown[][];
      /** Where to go on; `undefined` at the end. */
      readonly after: string | undefined;
      readonly unreadable: number;
    }
  | { readonly kind: 'written'; readonly unreadable: number }
  | { readonly kind: 'failed'; readonly failure: Failure; readonly reason: string };

/**
 * `corrupt`: the file is none of LMDB's, or damaged. `gone`: it was removed, or another is in its place. `format`: it was written by another
 * version of this program. `other`: no space, no permission and so on.
 */
export type Failure = 'corrupt' | 'gone' | 'format' | 'other';
