import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { buildConnector, Client } from 'undici';
import type { PeerResult } from '../peer-transport.js';
import type { NodeId } from '../../limits/ring/ring.js';
import { broken, failureOf } from './failure.js';
import { createOffer, PEER_PATH, readAcceptance, readProof, UPGRADE } from './handshake.js';
import type { Identity, LinkKeys } from './handshake.js';
import { idsOf } from './keys.js';
import { createLink } from './link.js';
import type { Link } from './link.js';
import { describeRefusal } from './refusal.js';
import { clientTls } from './tls.js';
import type { PeerTls } from './tls.js';

type LinkArguments = Parameters<typeof createLink>;

interface OpenEvents {
  /** Called once when the peers agree. The receiver calls `start`, which makes the link, during the call. */
  readonly opened: (start: (events: LinkArguments[3]) => Link) => void;
  /** Called once instead of `opened`. */
  readonly failed: (result: PeerResult) => void;
}

interface Connector {
  /**
   * Connects to a peer and agrees with it; see `handshake.ts`. Calls one of the two events, later, within
   * `openTimeoutMs`.
   * @returns a function that gives up without an event
   */
  open(to: NodeId, limits: LinkArguments[2], events: OpenEvents): () => void;
  /** Uses another certificate for new connections. */
  useTls(tls: PeerTls): void;
}

/** Bytes of a refusal that are read. */
const MAX_REFUSAL_BYTES = 4_096;

interface ConnectorOptions {
  readonly tls: PeerTls | undefined;
  readonly openTimeoutMs: number;
  /** Returns the Unix socket of a peer on this machine. Without one, or while its file is missing, TCP is used. */
  readonly socketPathOf: (to: NodeId) => string | undefined;
}

export function createConnector(identity: Identity, { tls, openTimeoutMs, socketPathOf }: ConnectorOptions): Connector {
  const connectFor = (with_: PeerTls | undefined): buildConnector.connector =>
    buildConnector({ timeout: openTimeoutMs, ...(with_ && clientTls(with_)) });
  let connect = connectFor(tls);

  return {
    useTls: (next) => void (connect = connectFor(next)),
    open(to, limits, { opened, failed }) {
      let over = false;
      let client: Client | undefined;
      let socket: Socket | undefined;
      const timer = setTimeout(() => fail({ kind: 'timeout' }), openTimeoutMs);
      const path = socketPathOf(to);
      const isLocal = path !== undefined && existsSync(path);
      const connectTo = isLocal ? buildConnector({ timeout: openTimeoutMs, socketPath: path }) : connect;
      const scheme = isLocal || tls === undefined ? 'http' : 'https';

      function end(): boolean {
        if (over) return false;
        over = true;
        clearTimeout(timer);
        return true;
      }

      function fail(result: PeerResult): void {
        if (!end()) return;
        socket?.destroy();
        void client?.destroy();
        failed(result);
      }

      function start(upgraded: Socket, keys: LinkKeys | undefined): void {
        if (!end()) return void upgraded.destroy();
        upgraded.removeAllListeners();
        opened((events) => createLink(upgraded, keys, limits, events));
        void client?.close();
      }

      function agree(upgraded: Duplex, headers: Parameters<typeof readAcceptance>[2]): void {
        if (over || !(upgraded instanceof Socket)) return void upgraded.destroy();
        socket = upgraded;
        upgraded.on('error', (error) => fail(failureOf(error)));
        upgraded.on('close', () => fail(broken('the peer hung up: it may have another peer secret')));
        const acceptance = readAcceptance(identity, offer, headers);
        if ('reason' in acceptance) return fail(broken(acceptance.reason));
        const { derived } = acceptance;
        if (derived === undefined) return start(upgraded, undefined);
        upgraded.write(derived.clientProof);
        readProof(upgraded, derived.serverProof, (right) => {
          if (!right) return fail(broken('the peer has another peer secret'));
          // Nobody can alter what passes through the kernel.
          start(upgraded, isLocal ? undefined : { send: derived.clientKey, receive: derived.serverKey });
        });
      }

      let status = 0;
      let body = Buffer.alloc(0);
      const offer = createOffer(identity, to);
      try {
        client = new Client(`${scheme}://${to}`, { connect: (on, connected) => connectTo(on, connected) });
        client.dispatch(
          { method: 'GET', path: PEER_PATH, upgrade: UPGRADE, headers: { ...offer.headers } },
          {
            onRequestStart: () => undefined,
            onRequestUpgrade: (_controller, _status, headers, upgraded) => agree(upgraded, headers),
            onResponseStart(_controller, statusCode) {
              status = statusCode;
            },
            onResponseData(controller, chunk) {
              body = Buffer.concat([body, chunk]);
              if (body.length > MAX_REFUSAL_BYTES) controller.abort(new Error('the answer is no refusal of a peer'));
            },
            onResponseEnd: () => fail(broken(reasonOf(status, describeRefusal(body), identity))),
            onResponseError: (_controller, error) => fail(failureOf(error)),
          },
        );
      } catch (error) {
        // The id is not an address.
        process.nextTick(fail, broken((error as Error).message));
      }
      return () => {
        if (!end()) return;
        socket?.destroy();
        void client?.destroy();
      };
    },
  };
}

/** Describes why a peer refused to upgrade. */
function reasonOf(status: number, refusal: string, { cluster, keys }: Identity): string {
  if (refusal === 'wrong_secret') return `the peer has another peer secret than those with the ids ${idsOf(keys)}`;
  if (!refusal.startsWith('other_cluster')) return `HTTP ${status} ${refusal}`;
  const advice = 'remove it from the peers, or set the same TOKENRING_CLUSTER on both';
  return `${refusal}, and the sender to cluster "${cluster}"; ${advice}`;
}
