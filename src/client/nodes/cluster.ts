import { readCluster, readProblem } from './answers.js';
import { FIRST_PROBE_MS, LAST_PROBE_MS, NodeHealth } from './node-health.js';
import type { ReadClientOptions } from '../options.js';
import { warnOnce, type Time } from '../runtime.js';
import { Topology } from './topology.js';
import { Transport, type Connections } from './transport.js';

/** The resolution of waits here. */
const TICK_MS = 100;
/** Longest wait for a lookup after a doubt: whether a node answers is to be known before the questions give up. */
const DOUBT_TIMEOUT_MS = 1_000;
/** Addresses tried at once. */
const MAX_PROBES = 8;

/** The nodes, as this client knows them, and the way to them. Looks up the members: at once, and again now and then. */
export class Cluster {
  readonly transport: Transport;
  readonly topology: Topology;
  readonly health: NodeHealth;
  private readonly refreshMs: number;
  private readonly timeoutMs: number;
  private readonly hasToken: boolean;
  private wanted = true;
  private used = false;
  private looking = false;
  private closed = false;
  private lookedAtMs = -Infinity;
  private pauseMs = 0;
  private jitter = 1;
  /** Longest wait for an answer in this lookup. */
  private waitMs = 0;
  private probes = 0;
  /** The address that is asked next. */
  private doubted: string | undefined;
  private cancel: () => void = () => undefined;

  constructor(
    connections: Connections,
    private readonly time: Time,
    { nodes, pinned, token, refreshMs, timeoutMs }: ReadClientOptions,
  ) {
    this.transport = new Transport(connections, time, token);
    this.topology = new Topology(nodes, pinned);
    this.health = new NodeHealth(time, this.topology, () =>
      warnOnce(
        `createClient: no node answers; they are tried again until one does: ${nodes.join(', ')}`,
        'TOKENRING_NO_NODE',
      ),
    );
    this.refreshMs = refreshMs;
    this.timeoutMs = timeoutMs;
    this.hasToken = token !== undefined;
    this.begin();
  }

  /** Notes a question. The members are looked up only while there are questions. */
  asked(): void {
    this.used = true;
  }

  /** Notes that the topology may be wrong about this address. The members are looked up soon. */
  doubt(address: string): void {
    this.wanted = true;
    this.doubted ??= address;
    if (this.time.nowMs() >= this.dueMs()) this.begin();
  }

  /**
   * Notes that a node has failed a question or call.
   * @returns whether its questions may move to other nodes for free, as when it has crashed
   */
  failed(address: string): boolean {
    this.health.failed(address);
    this.doubt(address);
    return this.health.movesFreely(address);
  }

  /** Notes that a node has answered a question or call. */
  answered(address: string): void {
    this.topology.answers(address);
    this.health.answered();
  }

  /** Ends the lookups. */
  stop(): void {
    this.closed = true;
    this.cancel();
  }

  private begin(): void {
    if (this.looking || this.closed) return;
    this.looking = true;
    this.waitMs = this.wanted ? Math.min(this.timeoutMs, DOUBT_TIMEOUT_MS) : this.timeoutMs;
    this.wanted = this.used = false;
    this.jitter = 0.8 + 0.4 * this.time.random();
    void (this.health.isOpen() ? this.probe() : this.lookAround()).then((isNews) => {
      this.looking = false;
      this.lookedAtMs = this.time.nowMs();
      this.pauseMs = isNews ? 0 : Math.min(this.refreshMs, Math.max(FIRST_PROBE_MS, 2 * this.pauseMs));
      if (this.topology.unproven().length > 0) this.wanted = true;
      this.schedule();
    });
  }

  /** Returns the time of the next lookup, in monotonic ms, if there are questions then. */
  private dueMs(): number {
    if (!this.wanted) return this.lookedAtMs + this.refreshMs * this.jitter;
    const { pauseMs } = this;
    return this.lookedAtMs + (this.health.isOpen() ? Math.min(LAST_PROBE_MS, pauseMs) * this.jitter : pauseMs);
  }

  private schedule(): void {
    this.cancel();
    this.health.probesAt(this.dueMs());
    if (!this.closed) this.cancel = this.time.after(TICK_MS, () => this.tick());
  }

  private tick(): void {
    if (this.used && this.time.nowMs() >= this.dueMs()) this.begin();
    else this.schedule();
  }

  /** Probes the failing nodes in turn. @returns whether one answers */
  private async probe(): Promise<boolean> {
    const failing = this.topology.unproven();
    await this.look(failing[(this.probes += 1) % failing.length] ?? this.topology.any());
    return !this.health.isOpen();
  }

  /** @returns whether something has changed */
  private async lookAround(): Promise<boolean> {
    const first = this.doubted ?? this.topology.any();
    this.doubted = undefined;
    let isNews = await this.look(first);
    if (isNews === undefined) {
      const second = this.topology.any();
      if (second !== first) isNews = await this.look(second);
    }
    const unproven = this.topology.unproven();
    for (let i = 0; i < unproven.length && !this.closed; i += MAX_PROBES) {
      const looks = unproven.slice(i, i + MAX_PROBES).map((address) => this.look(address));
      if ((await Promise.all(looks)).includes(true)) isNews = true;
    }
    return isNews === true;
  }

  /**
   * Asks a node for the members. An address that is not proven must first answer without the token, either as the
   * member that advertises it or with the error of a node that requires a token.
   * @returns whether something has changed; `undefined` without an answer
   */
  private async look(address: string): Promise<boolean | undefined> {
    const { topology, health, time } = this;
    const anonymous = this.hasToken && !topology.isProven(address);
    let answer = await this.transport.send(address, { method: 'GET', path: '/v1/cluster', anonymous }, this.waitMs);
    const wantsToken = answer.kind === 'answer' && readProblem(answer.value)?.code === 'unauthorized';
    if (anonymous && wantsToken)
      answer = await this.transport.send(address, { method: 'GET', path: '/v1/cluster' }, this.waitMs);
    if (answer.kind === 'failed' || answer.status >= 500) health.failed(address);
    else if (topology.isProven(address)) health.answered();
    if (answer.kind === 'failed' || answer.status !== 200) return undefined;
    const view = readCluster(answer.value);
    if (view === undefined) return undefined;
    await topology.prepare(view, time);
    return topology.learn(address, view);
  }
}
