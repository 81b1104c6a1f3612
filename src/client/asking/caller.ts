import { TokenringError } from '../../lib/error.js';
import type { Circuit } from './circuit.js';
import { readProblem } from './read-answer.js';
import { describeFailures } from './retries.js';
import type { Retries } from './retries.js';
import type { Time } from '../time.js';
import type { Topology } from '../topology/topology.js';
import type { Sent, Transport } from '../transport/transport.js';

/** Sends the calls that do not travel in batches, which are all except decisions. */
export interface Caller {
  /**
   * Asks the best nodes for a key, one after the other, until one answers. Nodes may execute the call more than once.
   * @param read returns `undefined` for a value that is not an answer
   * @throws TokenringError
   */
  call<T>(key: string, sent: Sent, read: (value: unknown) => T | undefined): Promise<T>;
  /** Resolves when no call waits for an answer. */
  idle(): Promise<void>;
}

interface CallerDeps {
  readonly transport: Transport;
  readonly topology: Topology;
  readonly retries: Retries;
  readonly circuit: Circuit;
  readonly time: Time;
  readonly onFailure: (address: string) => void;
}

const MAX_CALLS = 1_000;

export function createCaller(deps: CallerDeps, { timeoutMs }: { timeoutMs: number }): Caller {
  const { transport, topology, retries, circuit, time, onFailure } = deps;
  const calls = new Set<Promise<unknown>>();

  async function call<T>(key: string, sent: Sent, read: (value: unknown) => T | undefined): Promise<T> {
    const giveUpAtMs = time.nowMs() + timeoutMs;
    const failures = new Map<string, Error>();
    let mayAsk = true;
    retries.asked();
    for (const address of topology.addresses(key)) {
      const leftMs = giveUpAtMs - time.nowMs();
      if (leftMs <= 0 || !mayAsk) break;
      if (retries.restsUntilMs(address) > 0) continue;
      // A node gets half of the time left, so that there is time for the next node.
      const exchanged = await transport.send(address, sent, Math.max(leftMs / 2, Math.min(leftMs, 100)));
      if (exchanged.kind === 'failed') {
        failures.set(address, exchanged.reason);
        const isFree = retries.failed(address);
        mayAsk = exchanged.unconnected || isFree || retries.take();
        topology.fails(address);
        circuit.failed();
        onFailure(address);
        continue;
      }
      const { status, value, retryAfterMs } = exchanged;
      const answer = status === 200 || status === 204 ? read(value) : undefined;
      if (answer !== undefined) {
        topology.answers(address);
        circuit.answered();
        return answer;
      }
      const problem = readProblem(value);
      if (problem !== undefined) circuit.answered();
      if (problem !== undefined && status >= 400 && status < 500) throw problem;
      if (retryAfterMs !== undefined) retries.rest(address, retryAfterMs);
      failures.set(address, problem ?? new Error(`answered ${status}, which is no answer to ${sent.path}`));
      mayAsk = retries.take();
    }
    const cause = [...failures.values()].at(-1);
    const code = cause === undefined ? 'overloaded' : cause instanceof TokenringError ? cause.code : 'no_answer';
    if (code === 'no_answer') circuit.unanswered();
    const detail = describeFailures(failures) || 'every node has asked for a pause';
    throw new TokenringError(code, { detail }, { cause });
  }

  return {
    async call(key, sent, read) {
      if (calls.size >= MAX_CALLS)
        throw new TokenringError('overloaded', { detail: `${MAX_CALLS} calls of this client wait for an answer` });
      const refusal = circuit.refusal();
      if (refusal !== undefined) throw refusal;
      const called = call(key, sent, read);
      calls.add(called);
      try {
        return await called;
      } finally {
        calls.delete(called);
      }
    },
    async idle() {
      await Promise.allSettled(calls);
    },
  };
}
