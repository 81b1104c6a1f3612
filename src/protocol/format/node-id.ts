import { malformed } from '../../lib/byte-reader.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { mapped, text, type Codec } from './codec.js';

const MAX_NODE_ID_BYTES = 260;
const NODE_ID = /^([\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\]):([1-9]\d{0,4})$/;
/** A host that ends in a number is valid only as an IPv4 address. */
const ENDS_IN_NUMBER = /(?:^|\.)\d\w*\.?$/;
const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/;

/**
 * Checks that a text is `host:port` or `[v6]:port`, with the syntax of the settings. This node will connect to the
 * address.
 * @throws MalformedMessage
 */
export function checkNodeId(id: string, what: string): NodeId {
  const match = NODE_ID.exec(id);
  if (match !== null && Number(match[2]) <= 65_535 && isHost(match[1]!)) return id;
  throw malformed(what, 'host:port');
}

function isHost(host: string): boolean {
  if (host.startsWith('[')) return URL.canParse(`http://${host}`);
  return !ENDS_IN_NUMBER.test(host) || IPV4.test(host);
}

export function nodeId(what: string): Codec<NodeId> {
  return mapped(
    text(1, MAX_NODE_ID_BYTES, what),
    (id) => id,
    (id) => checkNodeId(id, what),
  );
}
