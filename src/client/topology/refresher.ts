import { FIRST_PROBE_MS, LAST_PROBE_MS } from '../asking/circuit.js';
import type { Circuit } from '../asking/circuit.js';
import type { Topology } from './topology.js';
import { readCluster, readProblem } from '../asking/read-answer.js';
import type { Time } from '../time.js';
import type { Exchanged, Transport } from '../transport/transport.js';

/** Keeps the topology up to date. */
interface Refresher {
  /** Notes a question. The members are looked up only while there are questions. */
  asked(): void;
  /** Notes that the topology may be wrong about this address, or about any. The members are looked up soon. */
  doubt(address?: string): void;
  close(): void;
}

interface RefresherOptions {
  /** Time between two lookups of the members while nothing fails, plus or minus a fifth, in ms. */
  readonly refreshMs: number;
  readonly timeoutMs: number;
  /** Whether the client has a token. */
  readonly hasToken: boolean;
}

/** The resolution of waits here. */
const TICK_MS = 100;
/** Longest wait for a lookup after a doubt: whether a node answers is to be known before the questions give up. */
const DOUBT_TIMEOUT_MS = 1_000;
/** Addresses tried at once. */
const MAX_PROBES = 8;

export function createRefresher(
  deps: { transport: Transport; topology: Topology; circuit: Circuit; time: Time },
  { refreshMs, timeoutMs, hasToken }: RefresherOptions,
): Refresher {
  const { transport, topology, circuit, time } = deps;
  let wanted = true;
  let used = false;
  let looking = false;
  let closed = false;
  let lookedAtMs = -Infinity;
  let pauseMs = 0;
  let jitter = 1;
  /** Longest wait for an answer in this lookup. */
  let waitMs = timeoutMs;
  let probes = 0;
  let at: string | undefined;
  let cancel: () => void = () => undefined;

  /**
   * Asks a node for the members. An address that is not proven must first answer without the token, either as the
   * member that advertises it or with the error of a node that requires a token.
   */
  async function ask(address: string): Promise<Exchanged> {
    const anonymous = hasToken && !topology.isProven(address);
    const exchanged = await transport.send(address, { method: 'GET', path: '/v1/cluster', anonymous }, waitMs);
    const wantsToken = exchanged.kind === 'answer' && readProblem(exchanged.value)?.code === 'unauthorized';
    if (!anonymous || !wantsToken) return exchanged;
    return transport.send(address, { method: 'GET', path: '/v1/cluster' }, waitMs);
  }

  /** @returns whether something has changed; `undefined` without an answer */
  async function look(address: string): Promise<boolean | undefined> {
    const exchanged = await ask(address);
    if (exchanged.kind === 'failed' || exchanged.status >= 500) {
      topology.fails(address);
      circuit.failed();
    } else if (topology.isProven(address)) circuit.answered();
    if (exchanged.kind === 'failed' || exchanged.status !== 200) return undefined;
    const view = readCluster(exchanged.value);
    if (view === undefined) return undefined;
    await topology.prepare(view, () => new Promise((resolve) => time.soon(resolve)));
    return topology.learn(address, view);
  }

  /** Probes the failing nodes in turn. @returns whether one answers */
  async function probe(): Promise<boolean> {
    const failing = topology.unproven();
    await look(failing[(probes += 1) % failing.length] ?? topology.any());
    return !circuit.isOpen();
  }

  async function lookAround(): Promise<boolean> {
    const first = at ?? topology.any();
    at = undefined;
    let news = await look(first);
    if (news === undefined) {
      const second = topology.any();
      if (second !== first) news = await look(second);
    }
    const unproven = topology.unproven();
    for (let i = 0; i < unproven.length && !closed; i += MAX_PROBES) {
      const looks = unproven.slice(i, i + MAX_PROBES).map((address) => look(address));
      if ((await Promise.all(looks)).includes(true)) news = true;
    }
    return news === true;
  }

  function begin(): void {
    if (looking || closed) return;
    looking = true;
    waitMs = wanted ? Math.min(timeoutMs, DOUBT_TIMEOUT_MS) : timeoutMs;
    wanted = used = false;
    jitter = 0.8 + 0.4 * time.random();
    void (circuit.isOpen() ? probe() : lookAround()).then((news) => {
      looking = false;
      lookedAtMs = time.nowMs();
      pauseMs = news ? 0 : Math.min(refreshMs, Math.max(FIRST_PROBE_MS, 2 * pauseMs));
      if (topology.unproven().length > 0) wanted = true;
      schedule();
    });
  }

  /** Returns the time of the next lookup, in monotonic ms, if there are questions then. */
  function dueMs(): number {
    if (!wanted) return lookedAtMs + refreshMs * jitter;
    return lookedAtMs + (circuit.isOpen() ? Math.min(LAST_PROBE_MS, pauseMs) * jitter : pauseMs);
  }

  function schedule(): void {
    cancel();
    circuit.probesAt(dueMs());
    if (!closed) cancel = time.after(TICK_MS, tick);
  }

  function tick(): void {
    if (used && time.nowMs() >= dueMs()) begin();
    else schedule();
  }

  begin();
  return {
    asked: () => void (used = true),
    doubt(address) {
      wanted = true;
      at ??= address;
      if (time.nowMs() >= dueMs()) begin();
    },
    close() {
      closed = true;
      cancel();
    },
  };
}
