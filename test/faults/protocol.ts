/** What the main program asks of the generator, which runs beside it in a process, and perhaps a network, of its own. */
export interface Calls {
  /** Tells of a node; it is sent requests once it says that it is ready. */
  node(asked: { readonly node: number; readonly url: string }): void;
  /** Sends so many requests a second from now on; 0 pauses. @param asked.among those who ask; without as before @returns when */
  pace(asked: { readonly perSecond: number; readonly among?: readonly number[] }): number;
  /** Signals processes of nodes, and from that very moment sends them requests or not. @returns when */
  signal(asked: {
    readonly signal: NodeJS.Signals;
    readonly to: readonly { readonly node: number; readonly pid: number }[];
    /** `as-it-says`: goes on until the node says that it is not ready. */
    readonly routing: 'on' | 'off' | 'as-it-says';
  }): number;
  /** Sends so many more requests for each of the clients at once. @param asked.node to this one, whether it is routed to or not */
  burst(asked: { readonly clients: readonly number[]; readonly times: number; readonly node?: number }): void;
  /** Keeps so many requests under way from now on, whatever the rate; 0 ends it. */
  saturate(asked: { readonly inFlight: number }): void;
  /** Sends so many batches to one node at once, each with one request of each of the clients. @returns ms until all were answered */
  batches(asked: { readonly clients: readonly number[]; readonly times: number; readonly node: number }): number;
  /** Fetches paths of a node, a few at a time. */
  get(asked: { readonly node: number; readonly paths: readonly string[] }): readonly Got[];
  /** Whether requests are sent to the node. */
  routed(asked: { readonly node: number }): boolean;
  /** Waits for what is under way, writes the history, and ends. */
  finish(asked: { readonly path: string }): void;
}

export type CallName = keyof Calls;

/** A response, without one status 0; `date` is the clock of the node, and `atMs` when it came. */
export interface Got {
  readonly status: number;
  readonly atMs: number;
  readonly body: string;
  readonly date: string | undefined;
}

export interface Call<K extends CallName = CallName> {
  readonly id: number;
  readonly name: K;
  readonly asked: Parameters<Calls[K]>[0];
}

export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}
