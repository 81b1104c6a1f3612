/* eslint @typescript-eslint/no-floating-promises: off -- needs types, which a .js file has none of */
// Compares the ways in which two processes can share a port: how evenly connections are spread, what a new connection
// costs, and how connections end that are new when a process is killed.
//
//   npm run build && for way in round-robin none kernel supervisor; do node test/bench/sharing.js $way; done
//
// `kernel` needs Node 23.1 or later. Prints one line of JSON.
import cluster from 'node:cluster';
import { createServer } from 'node:http';
import { connect, createServer as createListener } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const WORKERS = 2;
const CALLERS = 32;
const KEPT = 64;
const ROUNDS = 20;
const KILLS = 15;
const COST_MS = 3_000;
/** A connection without an answer or an end for so long hangs. */
const HANGS_MS = 2_000;

const way = process.argv[2];
if (cluster.isPrimary) await compare();
else serve();

async function compare() {
  cluster.schedulingPolicy = way === 'round-robin' ? cluster.SCHED_RR : cluster.SCHED_NONE;
  const probe = createListener();
  await new Promise((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address();
  await new Promise((resolve) => probe.close(resolve));

  const spread = way === 'supervisor' ? await createSpreader(port) : undefined;
  const up = new Set();
  const cpu = new Map();
  async function start() {
    const worker = cluster.fork({ PORT: port });
    worker.on('exit', () => {
      up.delete(worker);
      spread?.ended(worker.id);
    });
    await new Promise((resolve) => {
      worker.on('message', (message) => {
        if (message.taken !== undefined) spread.taken(worker.id, message.taken);
        if (message.cpu !== undefined) cpu.set(worker, message.cpu);
        if (message === 'ready') resolve();
      });
    });
    up.add(worker);
    spread?.joins(worker.id);
  }
  for (let i = 0; i < WORKERS; i += 1) await start();

  const shares = [];
  for (let round = 0; round < ROUNDS; round += 1) shares.push(await busiestShare(port));
  shares.sort((a, b) => a - b);

  const workerCpu = async () => {
    cpu.clear();
    for (const worker of up) worker.send('cpu');
    while (cpu.size < up.size) await sleep(5);
    return [...cpu.values()].reduce((sum, micros) => sum + micros, 0);
  };
  const cpuBefore = await workerCpu();
  const cost = await call(port, COST_MS);
  const workerMicros = ((await workerCpu()) - cpuBefore) / cost.answered;

  const ends = { answered: 0, broken: 0, hung: 0 };
  for (let kill = 0; kill < KILLS; kill += 1) {
    const [victim] = up;
    setTimeout(() => victim.process.kill('SIGKILL'), 150);
    const some = await call(port, 300);
    for (const end of Object.keys(ends)) ends[end] += some[end];
    await start();
  }
  const result = {
    way,
    node: process.version,
    busiestShare: { median: shares[ROUNDS / 2], largest: shares.at(-1) },
    newConnection: {
      workerMicros: Math.round(workerMicros),
      // The callers run here too, and cost the same in every way.
      supervisorAndCallerMicros: Math.round(cost.ownMicros),
    },
    kills: KILLS,
    ends,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`, () => {
    for (const worker of up) worker.process.kill('SIGKILL');
    process.exit(0);
  });
}

/** The program's own way before Node 23.1. */
async function createSpreader(port) {
  const { createConnectionSpreader } = await import('../../dist/esm/app/group/connection-spreader.js');
  const spread = createConnectionSpreader({
    hand: (worker, number, socket) =>
      cluster.workers[worker]?.send({ number }, socket, { keepOpen: true }, () => undefined),
  });
  const listener = createListener({ pauseOnConnect: true, noDelay: true }, (socket) => spread.add(socket));
  await new Promise((resolve) => listener.listen(port, '127.0.0.1', resolve));
  return spread;
}

/** Opens connections at once. @returns the part of them that the busiest worker has */
async function busiestShare(port) {
  const counts = new Map();
  const sockets = await Promise.all(
    Array.from({ length: KEPT }, async () => {
      const socket = connect(port, '127.0.0.1');
      socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
      const answer = await new Promise((resolve) => socket.once('data', (bytes) => resolve(String(bytes))));
      const worker = /^worker: (\d+)/im.exec(answer)[1];
      counts.set(worker, (counts.get(worker) ?? 0) + 1);
      return socket;
    }),
  );
  for (const socket of sockets) socket.destroy();
  await sleep(20);
  return Math.max(...counts.values()) / KEPT;
}

/** Asks over a new connection each time. */
async function call(port, forMs) {
  const ends = { answered: 0, broken: 0, hung: 0 };
  const before = process.cpuUsage();
  const endMs = performance.now() + forMs;
  const ask = () =>
    new Promise((resolve) => {
      let end = 'broken';
      const socket = connect(port, '127.0.0.1');
      const hangs = setTimeout(() => {
        end = 'hung';
        socket.destroy();
      }, HANGS_MS);
      socket.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      socket.on('data', () => (end = 'answered'));
      socket.on('error', () => undefined);
      socket.on('close', () => {
        clearTimeout(hangs);
        ends[end] += 1;
        resolve();
      });
    });
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      while (performance.now() < endMs) await ask();
    }),
  );
  const { user, system } = process.cpuUsage(before);
  return { ...ends, ownMicros: (user + system) / ends.answered };
}

function serve() {
  const server = createServer((_req, res) => {
    res.setHeader('Worker', process.pid);
    res.end('ok');
  });
  process.on('message', (message, socket) => {
    if (message === 'cpu') {
      const { user, system } = process.cpuUsage();
      process.send({ cpu: user + system });
    }
    if (message.number === undefined) return;
    process.send({ taken: message.number });
    if (socket !== undefined) server.emit('connection', socket);
  });
  if (way === 'supervisor') return process.send('ready');
  const options = { port: Number(process.env.PORT), host: '127.0.0.1', ...(way === 'kernel' && { reusePort: true }) };
  server.listen(options, () => process.send('ready'));
}
