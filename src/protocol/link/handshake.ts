import { hkdfSync, randomBytes, timingSafeEqual, scryptSync } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Socket } from 'node:net';
import type { NodeId } from '../../limits/ring/ring.js';
import { WIRE_VERSION } from '../format/messages.js';
import { checkNodeId } from '../format/node-id.js';
import type { RefusalCode } from './refusal.js';

/*
 * Two peers agree on cluster and wire version, and prove to each other that they know the shared secret, once for each
 * connection:
 *
 *     client                                                     server
 *       GET /peer, Upgrade: tokenring
 *       its versions, cluster, node id, address dialled,
 *       ids of its secrets, Nc ────────────────────────────────▶   another cluster, no common version or secret: refuses
 *     ◀────────── 101, version, cluster, node id, id of the secret, Ns
 *       proof of the client (32 bytes) ────────────────────────▶   wrong: hangs up
 *     ◀────────── proof of the server (32 bytes)
 *       records (see record.ts) ◀───────────────────────────────▶
 *
 * - Proofs and keys of both directions are parts of HKDF-SHA256 (RFC 5869) of the secret. Both random nonces are the
 *   salt, and everything above is the info. So they are valid only for this one connection between these two nodes, and
 *   no part of a recorded connection can be used again.
 * - The client proves first. A stranger who connects gets nothing against which to test guesses of the secret. So the
 *   server names no secret but the first of the client's that it knows, and logs its own ids where there is none.
 * - The address dialled may be an alias of the server, so the two ids may differ. The server answers with its own id.
 * - Without a secret there are no nonces, proofs, or tags. With TLS, certificates prove each identity. Without TLS,
 *   the port is on loopback.
 */

/** A secret that nodes share, and the id by which a handshake names it. */
export interface PeerKey {
  /** 8 hex digits. */
  readonly id: string;
  readonly secret: string;
}

/** The ids that a node offers, its first key first. */
const KEY_IDS = /^[\da-f]{8}(?:,[\da-f]{8}){0,3}$/;

/**
 * Cost of an id: some milliseconds and 4 MiB. A node that is dialled, and whoever listens, sees ids. A guess of the
 * secret takes a thousand times longer to test by them than by the proof that they see as well.
 */
const COST = 4_096;

/** @param secrets as `TOKENRING_PEER_SECRET` has them, and valid; the first one is used where the peer knows it */
export function peerKeysOf(secrets: string | undefined, cluster: string): readonly PeerKey[] {
  const list = secrets?.split(',') ?? [];
  return list.map((secret) => {
    const id = scryptSync(secret, `tokenring peer key of ${cluster}`, 4, { N: COST }).toString('hex');
    return { id, secret };
  });
}

export function idsOf(keys: readonly PeerKey[]): string {
  return keys.map(({ id }) => id).join(',');
}

export const UPGRADE = 'tokenring';
export const PEER_PATH = '/peer';
/** A nonce: an id of 128 random bits in base64url. */
const NONCE = /^[\w-]{22}$/;
const PROOF_BYTES = 32;
const KEY_BYTES = 32;

/** The identity that this node presents to peers. */
export interface Identity {
  /** Nodes of another cluster are refused. */
  readonly cluster: string;
  /** This node's id, once it listens. */
  readonly self: () => NodeId;
  /** The shared secrets, if there are any. The first one is used where the peer knows it. */
  readonly keys: readonly PeerKey[];
}

/** Keys of the records of one connection. */
export interface LinkKeys {
  readonly send: Buffer;
  readonly receive: Buffer;
}

/** The terms that both sides know once they have agreed. */
interface Agreement {
  readonly versions: string;
  readonly version: number;
  readonly cluster: string;
  readonly client: NodeId;
  readonly dialled: NodeId;
  readonly server: NodeId;
  /** The ids of the client's secrets: nobody on the way can make two peers use another one. */
  readonly offered: string;
}

interface Derived {
  readonly clientProof: Buffer;
  readonly serverProof: Buffer;
  readonly clientKey: Buffer;
  readonly serverKey: Buffer;
}

function derive(secret: string, agreement: Agreement, nonces: string): Derived {
  const { versions, version, cluster, client, dialled, server, offered } = agreement;
  // As a JSON list, two different agreements never make the same text.
  const info = JSON.stringify(['tokenring peer link', versions, version, cluster, client, dialled, server, offered]);
  const bytes = Buffer.from(hkdfSync('sha256', secret, nonces, info, 2 * PROOF_BYTES + 2 * KEY_BYTES));
  const part = (i: number): Buffer => bytes.subarray(i * KEY_BYTES, (i + 1) * KEY_BYTES);
  return { clientProof: part(0), serverProof: part(1), clientKey: part(2), serverKey: part(3) };
}

/** The headers that a client sends, and the parts that it needs later. */
interface Offer {
  readonly headers: Readonly<Record<string, string>>;
  readonly dialled: NodeId;
  readonly nonce: string;
}

export function createOffer({ cluster, self, keys }: Identity, dialled: NodeId): Offer {
  const nonce = randomBytes(16).toString('base64url');
  const headers: Record<string, string> = {
    'tokenring-versions': String(WIRE_VERSION),
    'tokenring-cluster': cluster,
    'tokenring-node': self(),
    'tokenring-to': dialled,
  };
  if (keys.length > 0) {
    headers['tokenring-keys'] = idsOf(keys);
    headers['tokenring-nonce'] = nonce;
  }
  return { headers, dialled, nonce };
}

export type Refused = {
  readonly kind: 'refused';
  readonly code: RefusalCode;
  readonly detail?: string;
  /** What the log says in place of `detail`, and no stranger may learn. */
  readonly logged?: string;
};

/** The server's side of an agreement. `derived` exists if there is a secret. */
export interface Accepted {
  readonly kind: 'accepted';
  readonly peer: NodeId;
  readonly headers: Readonly<Record<string, string>>;
  readonly derived: Derived | undefined;
}

/** Reads an offer. It proves nothing yet. */
export function acceptOffer({ cluster, self, keys }: Identity, headers: IncomingHttpHeaders): Accepted | Refused {
  const versions = headerOf(headers, 'tokenring-versions');
  const theirs = headerOf(headers, 'tokenring-cluster');
  const [client, dialled] = [idOf(headers, 'tokenring-node'), idOf(headers, 'tokenring-to')];
  const nonce = headerOf(headers, 'tokenring-nonce');
  if (theirs === '' || client === undefined || dialled === undefined) {
    return { kind: 'refused', code: 'malformed', detail: 'a header of the handshake is missing' };
  }
  if (!versions.split(',').includes(String(WIRE_VERSION))) {
    return { kind: 'refused', code: 'unknown_version', detail: `this node speaks version ${WIRE_VERSION}` };
  }
  if (theirs !== cluster) {
    return { kind: 'refused', code: 'other_cluster', detail: `this node belongs to cluster "${cluster}"` };
  }
  const offered = headerOf(headers, 'tokenring-keys');
  if (keys.length === 0 && nonce !== '') return { kind: 'refused', code: 'unexpected_credentials' };
  if (keys.length > 0 && !(NONCE.test(nonce) && KEY_IDS.test(offered))) {
    return { kind: 'refused', code: 'no_credentials' };
  }
  const answer: Record<string, string> = {
    'tokenring-version': String(WIRE_VERSION),
    'tokenring-cluster': cluster,
    'tokenring-node': self(),
  };
  if (keys.length === 0) return { kind: 'accepted', peer: client, headers: answer, derived: undefined };
  const key = commonKey(offered, keys);
  if (key === undefined) {
    const logged = `${client} offers the peer secrets with the ids ${offered}; this node has ${idsOf(keys)}`;
    return { kind: 'refused', code: 'wrong_secret', logged };
  }
  const own = randomBytes(16).toString('base64url');
  answer['tokenring-key'] = key.id;
  answer['tokenring-nonce'] = own;
  const agreement = { versions, version: WIRE_VERSION, cluster, client, dialled, server: self(), offered };
  return { kind: 'accepted', peer: client, headers: answer, derived: derive(key.secret, agreement, nonce + own) };
}

/** The first key of those that were offered. */
function commonKey(offered: string, keys: readonly PeerKey[]): PeerKey | undefined {
  for (const id of offered.split(',')) {
    const key = keys.find((one) => one.id === id);
    if (key !== undefined) return key;
  }
  return undefined;
}

/**
 * Reads the client's side of an agreement from the headers of the server's answer.
 * @returns a reason if there is no agreement, or the keys if there is a secret
 */
export function readAcceptance(
  { cluster, self, keys }: Identity,
  offer: Offer,
  headers: IncomingHttpHeaders,
): { readonly reason: string } | { readonly derived: Derived | undefined } {
  const [version, theirs] = [headerOf(headers, 'tokenring-version'), headerOf(headers, 'tokenring-cluster')];
  const server = idOf(headers, 'tokenring-node');
  if (version !== String(WIRE_VERSION) || theirs !== cluster || server === undefined) {
    return { reason: 'the upgrade was answered by something that is no peer' };
  }
  const nonce = headerOf(headers, 'tokenring-nonce');
  if (keys.length === 0) return { derived: undefined };
  if (!NONCE.test(nonce)) return { reason: 'the peer has no peer secret' };
  const key = commonKey(headerOf(headers, 'tokenring-key'), keys);
  if (key === undefined) return { reason: 'the peer chose a peer secret that this node did not offer' };
  const { dialled } = offer;
  const versions = String(WIRE_VERSION);
  const agreement = { versions, version: WIRE_VERSION, cluster, client: self(), dialled, server, offered: idsOf(keys) };
  return { derived: derive(key.secret, agreement, offer.nonce + nonce) };
}

/** Calls `done` once with whether the next bytes that arrive are this proof. Later bytes stay in the socket. */
export function readProof(socket: Socket, proof: Buffer, done: (right: boolean) => void): void {
  const look = (): void => {
    const bytes = socket.read(PROOF_BYTES) as Buffer | null;
    if (bytes === null) return;
    socket.off('readable', look);
    done(bytes.length === PROOF_BYTES && timingSafeEqual(bytes, proof));
  };
  socket.on('readable', look);
}

function headerOf(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return typeof value === 'string' ? value : '';
}

function idOf(headers: IncomingHttpHeaders, name: string): NodeId | undefined {
  try {
    return checkNodeId(headerOf(headers, name), name);
  } catch {
    return undefined;
  }
}
