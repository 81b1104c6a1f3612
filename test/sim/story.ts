import type { Rule } from '../../src/limits/bucket/rule.js';
import type { NodePlan, Request, Scenario } from './scenario.js';

/** A scenario written by hand: what is not said is as plain as can be. */
export type Story = Partial<Omit<Scenario, 'nodes'>> & { readonly nodes: readonly (string | Named)[] };
type Named = Partial<NodePlan> & Pick<NodePlan, 'id'>;

export function story({ nodes, requests = [], steps = [], ...rest }: Story): Scenario {
  const lastMs = Math.max(0, ...[...requests, ...steps].map(({ atMs }) => atMs));
  return {
    seed: 1,
    theme: 'mixed',
    replicas: 1,
    replicationIntervalMs: 50,
    suspectAfterMs: 1_000,
    network: { minMs: 1, maxMs: 1 },
    discovery: 'all',
    loadMs: lastMs + 100,
    ...rest,
    nodes: nodes.map((node) => ({
      clockOffsetMs: 0,
      clockRate: 1,
      slowMs: 0,
      startMs: 0,
      ...(typeof node === 'string' ? { id: node } : node),
    })),
    steps,
    requests,
  };
}

/** Nodes that join later, by a step. */
export function later(id: string): Named {
  return { id, startMs: undefined };
}

/** The same question again and again, of each node in turn. */
export function asks(
  clientId: string,
  rules: readonly Rule[],
  {
    fromMs = 0,
    everyMs = 10,
    times = 1,
    ...more
  }: Partial<Request> & { fromMs?: number; everyMs?: number; times?: number },
): Request[] {
  return Array.from({ length: times }, (_, i) => ({
    atMs: fromMs + i * everyMs,
    clientId,
    node: i,
    rules,
    cost: 1,
    peek: false,
    requestId: undefined,
    replicated: false,
    retries: 0,
    ...more,
  }));
}

/** `times` questions of each of some clients, in the order of time. */
export function crowd(count: number, of: (clientId: string, i: number) => Request[]): Request[] {
  const requests = Array.from({ length: count }, (_, i) => of(`client ${i}`, i)).flat();
  return requests.sort((a, b) => a.atMs - b.atMs);
}
