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
/**
 * A doubt leads to a lookup at once. The next follows after this time, and the pause doubles while nothing changes.
 */
const FIRST_PAUSE_MS = 100;
/** Addresses tried at once. */
const MAX_PROBES = 8;

export function createRefresher(
  deps: { transport: Transport; topology: Topology; time: Time },
  { refreshMs, timeoutMs, hasToken }: RefresherOptions,
): Refresher {
  const { transport, topology, time } = deps;
  let wanted = true;
  let used = false;
  let looking = false;
  let closed = false;
  let lookedAtMs = -Infinity;
  let pauseMs = 0;
  let everyMs = refreshMs;
  let at: string | undefined;
  let cancel: () => void = () => undefined;

  /**
   * Asks a node for the members. An address that is not proven must first answer without the token, either as the
   * member that advertises it or with the error of a node that requires a token.
   */
  async function ask(address: string): Promise<Exchanged> {
    const anonymous = hasToken && !topology.isProven(address);
    const exchanged = await transport.send(address, { method: 'GET', path: '/v1/cluster', anonymous }, timeoutMs);
    const wantsToken = exchanged.kind === 'answer' && readProblem(exchanged.value)?.code === 'unauthorized';
    if (!anonymous || !wantsToken) return exchanged;
    return transport.send(address, { method: 'GET', path: '/v1/cluster' }, timeoutMs);
  }

  /** @returns whether something has changed; `undefined` without an answer */
  async function look(address: string): Promise<boolean | undefined> {
    const exchanged = await ask(address);
    if (exchanged.kind === 'failed' || exchanged.status >= 500) topology.fails(address);
    if (exchanged.kind === 'failed' || exchanged.status !== 200) return undefined;
    const view = readCluster(exchanged.value);
    if (view === undefined) return undefined;
    await topology.prepare(view, () => new Promise((resolve) => time.soon(resolve)));
    return topology.learn(address, view);
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
    wanted = used = false;
    everyMs = refreshMs * (0.8 + 0.4 * time.random());
    void lookAround().then((news) => {
      looking = false;
      lookedAtMs = time.nowMs();
      pauseMs = news ? 0 : Math.min(refreshMs, Math.max(FIRST_PAUSE_MS, 2 * pauseMs));
      if (topology.unproven().length > 0) wanted = true;
      schedule();
    });
  }

  function schedule(): void {
    cancel();
    if (!closed) cancel = time.after(TICK_MS, tick);
  }

  function tick(): void {
    const sinceMs = time.nowMs() - lookedAtMs;
    if (used && sinceMs >= (wanted ? pauseMs : everyMs)) begin();
    else schedule();
  }

  begin();
  return {
    asked: () => void (used = true),
    doubt(address) {
      wanted = true;
      at ??= address;
      if (time.nowMs() - lookedAtMs >= pauseMs) begin();
    },
    close() {
      closed = true;
      cancel();
    },
  };
}
