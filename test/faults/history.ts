import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Decision } from '../../src/limits/decide/decision.js';

/** Monotonic ms, the same for all processes of this machine, so that times of different processes can be compared. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** One request and how it ended, as the generator saw it. */
export interface Asked extends Partial<Decision> {
  /** Places in the lists of clients and nodes. */
  readonly client: number;
  readonly node: number;
  readonly sentMs: number;
  readonly receivedMs: number;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  readonly error?: string;
}

/** What was asked, in the order of the answers, and how the generator fared. */
export interface History {
  readonly asked: readonly Asked[];
  /** Time for which it was to send, and the longest that it did not get the processor in. */
  readonly pacedMs: number;
  readonly stalledMs: number;
  /** Requests that its pace asked for, and those of them that count as not sent, as it did not run. */
  readonly due: number;
  readonly unsent: number;
}

/** One line for each request; the first is about the generator. */
export async function readHistory(path: string): Promise<History> {
  let head: Omit<History, 'asked'> | undefined;
  const asked: Asked[] = [];
  for await (const line of createInterface({ input: createReadStream(path) })) {
    if (head === undefined) head = JSON.parse(line) as Omit<History, 'asked'>;
    else asked.push(JSON.parse(line) as Asked);
  }
  if (head === undefined) throw new Error(`${path} is empty`);
  return { ...head, asked };
}

export function isDecision({ status }: Asked): boolean {
  return status === 200 || status === 429;
}
