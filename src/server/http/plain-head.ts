import { MAX_BATCH_BYTES, MAX_REQUEST_BYTES } from '../../limits/request/request.js';
import { readTraceContext, type TraceContext } from '../../lib/trace-context.js';
import type { HealthPath } from './health.js';
import type { HostGuard } from './host-guard.js';

/** The head of a decision request or a health check, when nothing else of the request matters. */
interface PlainHead {
  readonly kind: 'allow' | 'batch' | HealthPath;
  /** Length in bytes, with the empty line at its end. */
  readonly bytes: number;
  readonly bodyBytes: number;
  readonly host: string;
  /** The trace that the caller sent, if there is one. Each request then has a head of its own. */
  readonly trace: TraceContext | undefined;
}

const MAX_HEAD_BYTES = 2_048;
/** Heads that are remembered, as a client repeats the same head. */
const MAX_HEADS = 256;
const HEAD_END = Buffer.from('\r\n\r\n');
const FIELD = /^([\w!#$%&'*+.^`|~-]+):[ ]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ ]*$/;
const LENGTH = /^(?:0|[1-9]\d{0,6})$/;
const KINDS = {
  'POST /v1/allow HTTP/1.1': { kind: 'allow', maxBytes: MAX_REQUEST_BYTES },
  'POST /v1/allow/batch HTTP/1.1': { kind: 'batch', maxBytes: MAX_BATCH_BYTES },
  'GET /healthz HTTP/1.1': { kind: '/healthz', maxBytes: 0 },
  'GET /readyz HTTP/1.1': { kind: '/readyz', maxBytes: 0 },
} as const;

/** Headers that do not affect how such a request is read or answered. */
const NEUTRAL: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'accept-language',
  'cache-control',
  'pragma',
  'user-agent',
  'x-request-id',
]);

/**
 * Reads a head of the strictest form of HTTP/1.1 (RFC 9112). It has only known headers, and each one that matters once.
 * @param text in Latin-1, without the empty line at its end
 * @returns `undefined` for any other head, valid or not, which node:http then handles
 */
export function readPlainHead(text: string): PlainHead | undefined {
  if (text.length > MAX_HEAD_BYTES) return undefined;
  const [first, ...lines] = text.split('\r\n');
  if (!Object.hasOwn(KINDS, first!)) return undefined;
  const { kind, maxBytes } = KINDS[first as keyof typeof KINDS];
  const values = new Map<string, string>();
  for (const line of lines) {
    const field = FIELD.exec(line);
    if (field === null) return undefined;
    const name = field[1]!.toLowerCase();
    if (NEUTRAL.has(name)) continue;
    if (values.has(name)) return undefined;
    values.set(name, field[2]!);
  }
  const type = values.get('content-type');
  const hasBody = maxBytes > 0;
  const length = values.get('content-length');
  const connection = values.get('connection') ?? 'keep-alive';
  const traceparent = values.get('traceparent');
  const tracestate = values.get('tracestate');
  let known = hasBody ? 3 : 1;
  for (const optional of [values.get('connection'), traceparent, tracestate]) if (optional !== undefined) known += 1;
  const host = values.get('host');
  if (values.size !== known || host === undefined) return undefined;
  if (hasBody && type !== 'application/json') return undefined;
  if (hasBody && (length === undefined || !LENGTH.test(length) || Number(length) > maxBytes)) return undefined;
  if (connection.toLowerCase() !== 'keep-alive') return undefined;
  const trace = readTraceContext(traceparent, tracestate);
  return { kind, bytes: text.length + 4, bodyBytes: Number(length ?? 0), host, trace };
}

/** Finds plain heads, and remembers them. */
export class PlainHeads {
  private readonly known = new Map<string, PlainHead>();

  constructor(private readonly hosts: HostGuard) {}

  /** @returns the head of the bytes; `undefined` if it is not whole, not plain, or for another host */
  of(bytes: Buffer): PlainHead | undefined {
    const end = bytes.indexOf(HEAD_END);
    if (end < 0) return undefined;
    const text = bytes.toString('latin1', 0, end);
    const known = this.known.get(text);
    if (known !== undefined) return known;
    const head = readPlainHead(text);
    if (head === undefined || !this.hosts.acceptsHost(head.host)) return undefined;
    if (head.trace !== undefined) return head;
    if (this.known.size >= MAX_HEADS) this.known.clear();
    this.known.set(text, head);
    return head;
  }
}
