import { Worker } from 'node:worker_threads';
import { offerHeaders, upgradeRequest } from '../peer/support.js';

/** Runs in a thread of its own, as strangers do not take turns with the node. */
const CODE = `
  const { connect } = require('node:net');
  const { workerData: { ports, heads, bodyBytes, roundMs, perRound }, parentPort } = require('node:worker_threads');
  const body = Buffer.alloc(bodyBytes, 0x20);
  let sockets = [];
  let made = 0;
  function round() {
    for (const socket of sockets.splice(0)) socket.destroy();
    for (const port of ports) for (const head of heads) for (let i = 0; i < perRound; i += 1) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      made += 1;
      sockets.push(socket);
      if (head === '') continue;
      socket.write(head);
      socket.write(body);
    }
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

/**
 * Strangers who hold connections to all these ports, renew them, and send on each as much as a peer's message once had:
 * as the body of a POST, behind an upgrade with a guessed secret, and nothing at all.
 * @returns ends it, and says how many connections they made
 */
export function startStrangers(
  ports: readonly number[],
  { roundMs = 1_000, perRound = 8 }: { roundMs?: number; perRound?: number } = {},
): () => Promise<number> {
  const bodyBytes = 8 * 1024 * 1024 - 1;
  const heads = [
    `POST /peer HTTP/1.1\r\nHost: x\r\nContent-Length: ${bodyBytes + 1}\r\n\r\n`,
    upgradeRequest(offerHeaders({ secret: 'password' })),
    '',
  ];
  const worker = new Worker(CODE, { eval: true, workerData: { ports, heads, bodyBytes, roundMs, perRound } });
  return () =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject);
      worker.postMessage('end');
    });
}
