import { setTimeout as sleep } from 'node:timers/promises';
import { startChromium } from '../support/chromium.js';
import { freePorts } from '../support/ports.js';
import { askAtRate } from './generator.js';
import { cpuSeconds, SERVER_CORE } from './machine.js';
import { median } from './median.js';
import { startNode, type NodeProcess } from './processes.js';

/**
 * `tsx test/bench/dashboard.ts`: the CPU that three open dashboards cost the node that serves them, at 10,000 decisions per
 * second in a ring of three, and what a browser loads until it paints. The readers send what the page sends, without drawing.
 */
const RATE = 10_000;
const READERS = 3;
const TURNS = 7;
const TURN_SECONDS = 4;
const TOP_MS = 2_000;
const LOADS = 7;

async function startRing(): Promise<NodeProcess[]> {
  const ports = await freePorts(3);
  const peers = ports.map((port) => `127.0.0.1:${port}`).join();
  const nodes: NodeProcess[] = [];
  for (const port of ports)
    nodes.push(
      await startNode(SERVER_CORE, 'dist/esm', ['--peer-port', String(port), '--peers', peers, '--policies', 'none']),
    );
  return nodes;
}

/** Does what an open page does until the returned function is called. */
function openReader(port: number): () => void {
  const stop = new AbortController();
  const get = async (path: string): Promise<void> => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: stop.signal });
    await response.body!.pipeTo(new WritableStream(), { signal: stop.signal });
  };
  const quietly = (path: string): Promise<void> => get(path).catch(() => undefined);
  void quietly('/v1/events');
  const timer = setInterval(() => {
    for (const by of ['denied', 'asked', 'cost']) void quietly(`/v1/top?by=${by}&span=minute&limit=10`);
  }, TOP_MS);
  return () => {
    clearInterval(timer);
    stop.abort();
  };
}

/** @returns the part of a core that the node used */
async function load(node: NodeProcess, readers: number, round: number): Promise<number> {
  try {
    return await loadOnce(node, readers, round);
  } catch (error) {
    console.log(`again: ${String(error)}`);
    return load(node, readers, round);
  }
}

/** @throws Error if the machine was too busy for all requests to be decided */
async function loadOnce(node: NodeProcess, readers: number, round: number): Promise<number> {
  const stops = Array.from({ length: readers }, () => openReader(node.port));
  const [before, startMs] = [cpuSeconds(node.pid), performance.now()];
  try {
    await askAtRate(node, { rate: RATE, seconds: TURN_SECONDS, round });
    return (cpuSeconds(node.pid) - before) / ((performance.now() - startMs) / 1_000);
  } finally {
    for (const stop of stops) stop();
    await sleep(300);
  }
}

async function measureCpu(node: NodeProcess): Promise<void> {
  await load(node, READERS, 0);
  const without: number[] = [];
  const differences: number[] = [];
  for (let turn = 0; turn < TURNS; turn += 1) {
    const order = turn % 2 === 0 ? [0, READERS] : [READERS, 0];
    const used = new Map<number, number>();
    for (const readers of order) used.set(readers, await load(node, readers, turn));
    without.push(used.get(0)!);
    differences.push(used.get(READERS)! - used.get(0)!);
  }
  const percent = (part: number): string => `${(part * 100).toFixed(1)}%`;
  console.log(`a node at ${RATE} decisions per second, of a core: ${percent(median(without))}`);
  const spread = `${percent(Math.min(...differences))} to ${percent(Math.max(...differences))}`;
  console.log(`more with ${READERS} readers: ${percent(median(differences))} (${spread})`);
}

/** What the browser tells of the page, as a script for it. */
const LOADED = `(() => {
  const files = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
    .filter(({ name }) => new URL(name).pathname.startsWith('/dashboard'));
  return {
    files: files.length,
    bytes: files.reduce((sum, { transferSize }) => sum + transferSize, 0),
    paintMs: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
  };
})()`;

async function measurePaint({ port }: NodeProcess): Promise<void> {
  const chromium = await startChromium();
  const paints: number[] = [];
  for (let i = 0; i < LOADS; i += 1) {
    const opened = await chromium.open(`http://127.0.0.1:${port}/dashboard`);
    await opened.page.locator('#connection.live').waitFor();
    const { files, bytes, paintMs } = await opened.page.evaluate<{ files: number; bytes: number; paintMs: number }>(
      LOADED,
    );
    // The first one also starts the browser's processes.
    if (i > 0) paints.push(paintMs);
    else console.log(`${files} files, ${(bytes / 1_000).toFixed(1)} kB over the wire`);
    await opened.close();
  }
  await chromium.close();
  console.log(`first contentful paint: ${median(paints).toFixed(0)} ms (to ${Math.max(...paints).toFixed(0)} ms)`);
}

const nodes = await startRing();
await measurePaint(nodes[0]!);
await measureCpu(nodes[0]!);
await Promise.all(nodes.map((node) => node.stop()));
