import { TokenringError } from '../lib/error.js';
import { readProblem } from './nodes/answers.js';
import type { Cluster } from './nodes/cluster.js';
import { noAnswer } from './nodes/node-health.js';
import type { NodeRequest } from './nodes/transport.js';
import type { Time } from './runtime.js';

const MAX_CALLS = 1_000;

/** Sends the calls that do not travel in batches, which are all except decisions. */
export class Caller {
  private readonly calls = new Set<Promise<unknown>>();

  constructor(
    private readonly cluster: Cluster,
    private readonly time: Pick<Time, 'nowMs'>,
    private readonly timeoutMs: number,
  ) {}

  /**
   * Asks the best nodes for a key, one after the other, until one answers. Nodes may execute the call more than once.
   * @param read returns `undefined` for a value that is not an answer
   * @throws TokenringError
   */
  async call<T>(key: string, request: NodeRequest, read: (value: unknown) => T | undefined): Promise<T> {
    if (this.calls.size >= MAX_CALLS)
      throw new TokenringError('overloaded', { detail: `${MAX_CALLS} calls of this client wait for an answer` });
    const refusal = this.cluster.health.refusal();
    if (refusal !== undefined) throw refusal;
    const called = this.askNodes(key, request, read);
    this.calls.add(called);
    try {
      return await called;
    } finally {
      this.calls.delete(called);
    }
  }

  /** Resolves when no call waits for an answer. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.calls);
  }

  private async askNodes<T>(key: string, request: NodeRequest, read: (value: unknown) => T | undefined): Promise<T> {
    const { cluster, time } = this;
    const { transport, topology, health } = cluster;
    const giveUpAtMs = time.nowMs() + this.timeoutMs;
    const failures = new Map<string, Error>();
    let mayAsk = true;
    health.asked();
    for (const address of topology.addresses(key)) {
      const leftMs = giveUpAtMs - time.nowMs();
      if (leftMs <= 0 || !mayAsk) break;
      if (health.restsUntilMs(address) > 0) continue;
      // A node gets half of the time left, so that there is time for the next node.
      const answer = await transport.send(address, request, Math.max(leftMs / 2, Math.min(leftMs, 100)));
      if (answer.kind === 'failed') {
        failures.set(address, answer.reason);
        const isFree = cluster.failed(address);
        mayAsk = answer.unconnected || isFree || health.takeRetry();
        continue;
      }
      const { status, value, retryAfterMs } = answer;
      const result = status === 200 || status === 204 ? read(value) : undefined;
      if (result !== undefined) {
        cluster.answered(address);
        return result;
      }
      const problem = readProblem(value);
      if (problem !== undefined) health.answered();
      if (problem !== undefined && status >= 400 && status < 500) throw problem;
      if (retryAfterMs !== undefined) health.rest(address, retryAfterMs);
      failures.set(address, problem ?? new Error(`answered ${status}, which is no answer to ${request.path}`));
      mayAsk = health.takeRetry();
    }
    const last = [...failures.values()].at(-1);
    const error = noAnswer(failures, last instanceof TokenringError ? last.code : undefined);
    if (error.code === 'no_answer') health.unanswered();
    throw error;
  }
}
