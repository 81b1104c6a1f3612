import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

/** Author of a change: a token and the caller's address, the watched policy file, or other nodes. */
export type Actor =
  | { readonly token: string; readonly address: string | undefined; readonly certificate?: string }
  | { readonly file: string }
  /** Ids of the nodes that wrote the policies which replaced those of this node. */
  | { readonly nodes: readonly string[] };

/** One change, for the audit log. */
export interface Change {
  readonly who: Actor;
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

/** A change with its time of day, in ms since 1970. */
type RecordedChange = Change & { readonly atMs: number };

const MAX_CHANGES = 200;
const MAX_TRAIL_LENGTH = 256 * 1024;
/** A longer change is kept without its values. */
const MAX_CHANGE_LENGTH = 16 * 1024;

/**
 * The last changes that this node made, in memory, for people to look at. They are bounded in number and length. The
 * audit log keeps all of them.
 */
export class AuditTrail {
  private readonly texts: string[] = [];
  private length = 0;

  constructor(
    private readonly log: Audit,
    private readonly wallMs: () => number,
  ) {}

  /** Records a change in the trail and in the audit log. */
  audit(change: Change): void {
    this.log(change);
    const recorded = { atMs: this.wallMs(), ...change };
    const whole = JSON.stringify(recorded);
    const short = { ...recorded, before: undefined, after: undefined };
    const text = whole.length > MAX_CHANGE_LENGTH ? JSON.stringify(short) : whole;
    this.length += text.length;
    this.texts.push(text);
    while (this.texts.length > MAX_CHANGES || this.length > MAX_TRAIL_LENGTH) this.length -= this.texts.shift()!.length;
  }

  /** The last changes, newest first. */
  recent(): readonly RecordedChange[] {
    return this.texts.map((text) => JSON.parse(text) as RecordedChange).reverse();
  }
}

/** @param token the name of the token that `Access.authorize` found */
export function actorOf(req: IncomingMessage, token: string | undefined): Actor {
  const { socket } = req;
  const certificate = 'getPeerCertificate' in socket ? commonName(socket as TLSSocket) : undefined;
  const who = { token: token ?? 'none', address: socket.remoteAddress };
  return certificate === undefined ? who : { ...who, certificate };
}

function commonName(socket: TLSSocket): string | undefined {
  const subject = socket.authorized ? socket.getPeerCertificate().subject : undefined;
  return subject === undefined ? undefined : [subject.CN].flat()[0];
}
