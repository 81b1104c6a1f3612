import { WIRE_VERSION } from '../wire/codec.js';

/** Why this node's peer listener does not take a message: the stable code, the status and what it means. */
export const REFUSALS = {
  bad_http: { status: 400, title: 'This is not HTTP/1.1' },
  malformed: { status: 400, title: 'The message is malformed' },
  no_credentials: { status: 401, title: 'This node has a peer secret, and the message is not signed' },
  unexpected_credentials: { status: 401, title: 'The message is signed, and this node has no peer secret' },
  wrong_secret: { status: 401, title: 'The message is signed with another secret, or was changed' },
  unknown_boot: { status: 401, title: 'The message is signed for another node, or for an earlier life of this one' },
  too_old: { status: 401, title: 'Too many later messages of the same session came first' },
  replayed: { status: 401, title: 'This very message has come before' },
  from_browser: { status: 403, title: 'Web pages may not talk to peers' },
  not_found: { status: 404, title: 'Peers talk to POST /peer/v2/message' },
  unknown_version: { status: 404, title: 'This node does not speak this version' },
  method_not_allowed: { status: 405, title: 'Messages are POSTed' },
  timeout: { status: 408, title: 'The message did not arrive in time' },
  too_large: { status: 413, title: 'The message is too large' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'The node made a mistake' },
  busy: { status: 503, title: 'Too many bytes of messages are arriving at once' },
} as const satisfies Record<string, { status: number; title: string }>;

export type RefusalCode = keyof typeof REFUSALS;

export interface RefusalMore {
  readonly detail?: string;
  /** The boot id for which a message must be signed. */
  readonly boot?: string;
}

/** The body of a refusal: problem details (RFC 9457). */
export function refusalBody(code: RefusalCode, { detail, boot }: RefusalMore = {}): string {
  const { status, title } = REFUSALS[code];
  const type = `urn:tokenring:problem:peer:${code}`;
  const versions = code === 'unknown_version' ? [WIRE_VERSION] : undefined;
  return JSON.stringify({ type, code, status, title, detail, boot, versions });
}

/** What a refusal says to the sender; everything may be missing, as anything may have answered. */
export function readRefusal(body: Buffer): { code?: string; detail?: string; boot?: string } {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8', 0, 4_096));
  } catch {
    return {};
  }
  if (typeof value !== 'object' || value === null) return {};
  const text = (name: string): string | undefined => {
    const field = (value as Record<string, unknown>)[name];
    return typeof field === 'string' ? field.slice(0, 200) : undefined;
  };
  const [code, detail, boot] = [text('code'), text('detail'), text('boot')];
  return {
    ...(code !== undefined && { code }),
    ...(detail !== undefined && { detail }),
    ...(boot !== undefined && { boot }),
  };
}
