import type { Topology } from './topology.js';
import { TokenringError } from '../core/error.js';
import { readProblem } from './read-answer.js';
import type { Time } from './time.js';
import type { Sent, Transport } from './transport.js';

/** What is asked one by one: anything but decisions. */
export interface Caller {
  /**
   * Asks the nodes that are best asked about a key, one after the other, until one answers. It may be done more than once.
   * @param read `undefined` for what is no answer
   * @throws TokenringError
   */
  call<T>(key: string, sent: Sent, read: (value: unknown) => T | undefined): Promise<T>;
  /** Resolves when nothing waits for an answer anymore. */
  idle(): Promise<void>;
}

const MAX_CALLS = 1_000;

export function createCaller(
  deps: { transport: Transport; topology: Topology; time: Time; onFailure: (address: string) => void },
  { timeoutMs }: { timeoutMs: number },
): Caller {
  const { transport, topology, time, onFailure } = deps;
  const calls = new Set<Promise<unknown>>();

  async function call<T>(key: string, sent: Sent, read: (value: unknown) => T | undefined): Promise<T> {
    const giveUpAtMs = time.nowMs() + timeoutMs;
    let failure: Error | undefined;
    for (const address of topology.addresses(key)) {
      const leftMs = giveUpAtMs - time.nowMs();
      if (leftMs <= 0) break;
      // Half of what is left, so that there is time for the next.
      const exchanged = await transport.send(address, sent, Math.max(leftMs / 2, Math.min(leftMs, 100)));
      if (exchanged.kind === 'failed') {
        failure = exchanged.reason;
        topology.fails(address);
        onFailure(address);
        continue;
      }
      const { status, value } = exchanged;
      const answer = status === 200 || status === 204 ? read(value) : undefined;
      if (answer !== undefined) {
        topology.answers(address);
        return answer;
      }
      const problem = readProblem(value);
      if (problem !== undefined && status >= 400 && status < 500) throw problem;
      failure = problem ?? new Error(`${address} answered ${status}, which is no answer to ${sent.path}`);
    }
    if (failure instanceof TokenringError) throw failure;
    throw new TokenringError('no_answer', {}, { cause: failure });
  }

  return {
    async call(key, sent, read) {
      if (calls.size >= MAX_CALLS) {
        throw new TokenringError('overloaded', { detail: `${MAX_CALLS} calls wait for an answer already` });
      }
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
