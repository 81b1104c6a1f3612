import { Worker } from 'node:worker_threads';
import { offerHeaders, upgradeRequest } from '../peer/support.js';

/** Runs in a thread of its own, as strangers do not take turns with the node. */
const CODE = `
  const { readlinkSync } = require('node:fs');
  const { connect } = require('node:net');
  const { setPriority } = require('node:os');
  const tls = require('node:tls');
  const { workerData: { ports, kinds, bodyBytes, roundMs, perRound, nice }, parentPort } = require('node:worker_threads');
  if (nice !== undefined) setPriority(Number(readlinkSync('/proc/thread-self').split('/').at(-1)), nice);
  const body = Buffer.alloc(bodyBytes, 0x20);
  let sockets = [];
  let made = 0;
  function open(port, { head, certificate }) {
    const to = { port, host: '127.0.0.1', rejectUnauthorized: false };
    const socket = certificate === undefined ? connect(to) : tls.connect({ ...to, ...certificate });
    socket.on('error', () => undefined);
    made += 1;
    sockets.push(socket);
    if (head === '') return;
    socket.write(head);
    socket.write(body);
  }
  function round() {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const port of ports) for (const kind of kinds) for (let i = 0; i < perRound; i += 1) open(port, kind);
  }
  round();
  const timer = setInterval(round, roundMs);
  parentPort.once('message', () => {
    clearInterval(timer);
    for (const socket of sockets) socket.destroy();
    parentPort.postMessage(made);
    parentPort.close();
  });
`;

interface StrangersOptions {
  /** Interval in ms after which they renew their connections. Default 1,000. */
  readonly roundMs?: number;
  /** Connections of each kind to each port. Default 8. */
  readonly perRound?: number;
  /** A certificate that the nodes do not trust. With one, some begin TLS with it, and some without any. */
  readonly certificate?: { readonly cert: string; readonly key: string } | undefined;
  /** Niceness of their thread. Default: that of the process. */
  readonly nice?: number;
}

/**
 * Strangers who hold connections to all these ports, renew them, and send on each as much as a peer's message once had:
 * as the body of a POST, behind an upgrade with a guessed secret, and nothing at all.
 * @returns ends it, and says how many connections they made
 */
export function startStrangers(
  ports: readonly number[],
  { roundMs = 1_000, perRound = 8, certificate, nice }: StrangersOptions = {},
): () => Promise<number> {
  const bodyBytes = 8 * 1024 * 1024 - 1;
  const post = `POST /peer HTTP/1.1\r\nHost: x\r\nContent-Length: ${bodyBytes + 1}\r\n\r\n`;
  const upgrade = upgradeRequest(offerHeaders({ secret: 'password' }));
  const overTls = certificate === undefined ? [] : [{}, certificate];
  const kinds = [
    { head: post },
    { head: upgrade },
    { head: '' },
    ...overTls.map((one) => ({ head: upgrade, certificate: one })),
  ];
  const worker = new Worker(CODE, { eval: true, workerData: { ports, kinds, bodyBytes, roundMs, perRound, nice } });
  return () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
      worker.postMessage('end');
    });
}
