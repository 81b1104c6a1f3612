export interface Log {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Message of a node that waits for its first peer. */
export const NO_PEER_ANSWERS = 'no peer answers; waiting before a ring of one';
