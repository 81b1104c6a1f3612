import type { Topology } from './topology.js';
import { readCluster } from './read-answer.js';
import type { Time } from './time.js';
import type { Transport } from './transport.js';

/** Keeps the topology true. */
interface Refresher {
  /** Notes that somebody asks: while nobody does, nothing is looked at. */
  asked(): void;
  /** Something is not as the topology has it, at this address or anywhere: it is looked at soon. */
  doubt(address?: string): void;
  close(): void;
}

interface RefresherOptions {
  /** How often the members are asked for while all seems well, give or take a fifth, in ms. */
  readonly refreshMs: number;
  readonly timeoutMs: number;
}

/** The resolution of waits here. */
const TICK_MS = 100;
/** A doubt is looked into at once; and again after this long, then twice as long each time, while a look brings nothing new. */
const FIRST_PAUSE_MS = 100;
/** Addresses tried at once. */
const MAX_PROBES = 8;

export function createRefresher(
  deps: { transport: Transport; topology: Topology; time: Time },
  { refreshMs, timeoutMs }: RefresherOptions,
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

  /** @returns whether it is news what came of it; `undefined` where nothing came */
  async function look(address: string): Promise<boolean | undefined> {
    const exchanged = await transport.send(address, { method: 'GET', path: '/v1/cluster' }, timeoutMs);
    if (exchanged.kind === 'failed' || exchanged.status >= 500) topology.fails(address);
    if (exchanged.kind === 'failed' || exchanged.status !== 200) return undefined;
    const view = readCluster(exchanged.value);
    return view && topology.learn(address, view);
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
