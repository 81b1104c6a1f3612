import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** Author of a change: a token and the caller's address, the watched policy file, or other nodes. */
export type Who =
  | { readonly token: string; readonly address: string | undefined; readonly certificate?: string }
  | { readonly file: string }
  /** Ids of the nodes that wrote the policies which replaced those of this node. */
  | { readonly nodes: readonly string[] };

/** One change, for the audit log. */
export interface Change {
  readonly who: Who;
  /** The change, such as `client forgotten`. */
  readonly what: string;
  /** The id of the client or the name of the policy. */
  readonly target?: string;
  /** The value before the change; absent if there was none. Never a secret. */
  readonly before?: unknown;
  readonly after?: unknown;
}

/** Records one change. Code that changes a node's decisions calls this after the change. */
export type Audit = (change: Change) => void;

/** @param token the name of the token that `Access.admit` found */
export function whoAsks(req: IncomingMessage, token: string | undefined): Who {
  const { socket } = req;
  const certificate = 'getPeerCertificate' in socket ? commonName(socket as TLSSocket) : undefined;
  const who = { token: token ?? 'none', address: socket.remoteAddress };
  return certificate === undefined ? who : { ...who, certificate };
}

function commonName(socket: TLSSocket): string | undefined {
  const subject = socket.authorized ? socket.getPeerCertificate().subject : undefined;
  return subject === undefined ? undefined : [subject.CN].flat()[0];
}
