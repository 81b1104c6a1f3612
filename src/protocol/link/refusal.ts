import type { ByteWriter } from '../../lib/byte-writer.js';
import { WIRE_VERSION } from '../format/messages.js';
import type { IncomingHttpHeaders } from 'node:http';
import type { Log } from '../../lib/system.js';

/**
 * The reasons why this node's peer listener refuses a request, a message, or a connection. Each has a stable code, an
 * HTTP status, and a meaning.
 */
export const REFUSALS = {
  bad_http: { status: 400, title: 'This is not HTTP/1.1' },
  malformed: { status: 400, title: 'The message is malformed' },
  no_credentials: { status: 401, title: 'This node has a peer secret, and the peer has none' },
  unexpected_credentials: { status: 401, title: 'The peer has a peer secret, and this node has none' },
  wrong_secret: { status: 401, title: 'The peer has another peer secret' },
  from_browser: { status: 403, title: 'Web pages may not talk to peers' },
  not_found: { status: 404, title: 'This port is for other nodes; the public API has another port' },
  timeout: { status: 408, title: 'The peer did not prove who it is in time' },
  other_cluster: { status: 409, title: 'The peer belongs to another cluster' },
  too_large: { status: 413, title: 'The message is too large' },
  upgrade_required: { status: 426, title: 'Peers upgrade this request to tokenring' },
  unknown_version: { status: 426, title: 'This node does not speak a version that the peer speaks' },
  headers_too_large: { status: 431, title: 'The headers are too large' },
  internal: { status: 500, title: 'The node made a mistake' },
  too_many_connections: { status: 503, title: 'Too many connections' },
  bad_record: { status: 400, title: 'The bytes are no records' },
  bad_tag: { status: 401, title: 'A record was changed on the way' },
} as const satisfies Record<string, { status: number; title: string }>;

export type RefusalCode = keyof typeof REFUSALS;

/** Formats the body of a refusal as problem details (RFC 9457). */
export function refusalBody(code: RefusalCode, detail?: string): string {
  const { status, title } = REFUSALS[code];
  const type = `urn:tokenring:problem:peer:${code}`;
  const versions = code === 'unknown_version' ? [WIRE_VERSION] : undefined;
  return JSON.stringify({ type, code, status, title, detail, versions });
}

/** What to do about nodes of two wire versions. */
export const SAME_RELEASE = 'install the same release on both nodes';

/** First byte of a frame that refuses a message. No answer begins with it. */
const REFUSAL = 0;

/** Adds the payload of a frame that refuses a message. */
export function writeRefusal(out: ByteWriter, { code, detail }: { code: RefusalCode; detail?: string }): void {
  out.byte(REFUSAL);
  out.utf8(refusalBody(code, detail));
}

/** Describes the payload of a refusal in one line; `undefined` when the payload is an answer. */
export function refusalOf(payload: Buffer): string | undefined {
  return payload[0] === REFUSAL ? describeRefusal(payload.subarray(1)) : undefined;
}

/** Describes a refusal as `code: detail`. Any program may have answered, so both may be missing. */
export function describeRefusal(body: Buffer): string {
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8', 0, 4_096));
  } catch {
    value = undefined;
  }
  const text = (name: string): string | undefined => {
    const field = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[name] : undefined;
    return typeof field === 'string' ? field.slice(0, 200) : undefined;
  };
  const [code = 'without a code', detail] = [text('code'), text('detail')];
  return detail === undefined ? code : `${code}: ${detail}`;
}

/** Time in which a peer is logged once for each reason. */
const INTERVAL_MS = 60_000;
/** Bound of lines in one interval. A stranger can invent any number of addresses and ids. */
const MAX_LINES = 64;

/** Logs nodes that this node refuses because of how they are set up: each once a minute, and what to do. */
export class MismatchLog {
  private readonly logged = new Set<string>();
  private sinceMs: number;

  constructor(
    private readonly cluster: string,
    private readonly log: Log,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.sinceMs = nowMs();
  }

  note(reason: 'other_cluster' | 'unknown_version', headers: IncomingHttpHeaders, from: string | undefined): void {
    const { logged } = this;
    if (this.nowMs() - this.sinceMs > INTERVAL_MS) {
      logged.clear();
      this.sinceMs = this.nowMs();
    }
    const peer = headers['tokenring-node'];
    const key = `${reason} ${from} ${String(peer)}`;
    if (logged.has(key) || logged.size >= MAX_LINES) return;
    logged.add(key);
    if (reason === 'other_cluster') {
      const [cluster, theirs] = [this.cluster, headers['tokenring-cluster']];
      const advice = 'remove this node from the peers of that one, or set the same TOKENRING_CLUSTER';
      this.log.warn({ reason, peer, from, cluster, theirs, advice }, 'refused a node of another cluster');
    } else {
      const theirs = headers['tokenring-versions'];
      const advice = `${SAME_RELEASE}; a running cluster cannot change its wire version node by node`;
      this.log.warn(
        { reason, peer, from, version: WIRE_VERSION, theirs, advice },
        'refused a node of another wire version',
      );
    }
  }
}
