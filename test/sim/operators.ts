import { change, NO_DOCUMENT, type PolicyDocument } from '../../src/policy/policy-document.js';
import type { Cluster } from './cluster.js';
import type { Adoption, HeldDocument, PolicyHistory, PolicyWriteCall, Question } from './history.js';
import type { PolicyWrite, Scenario } from './scenario.js';
import type { SimNode, World } from './world.js';

/** Those who change the policies, and what becomes of it: each document that any node ever holds. */
export interface Operators {
  /** Gives a node that begins its file of policies, and looks at what it holds from now on. */
  readonly begin: (node: SimNode) => void;
  write(cluster: Cluster, planned: PolicyWrite): void;
  /** Reads the version that a later write is to name. */
  look(cluster: Cluster, planned: PolicyWrite): void;
  note(question: Question): void;
  readonly history: PolicyHistory;
}

/** The author of the policies file. */
const FILE = 'file:1';

export function createOperators({ policies }: Scenario, world: World): Operators {
  const writes: PolicyWriteCall[] = [];
  const adoptions: Adoption[] = [];
  const questions: Question[] = [];
  const documents = new Map<string, HeldDocument>();
  const seen = new Map<PolicyWrite, { version: number; seenMs: number }>();
  const lives = new Map<string, number>();
  /** What the file of each node's own has. */
  const files = new Map<string, PolicyDocument>();
  const first = policies && change(NO_DOCUMENT, new Map(policies.entries), FILE);

  function held(node: string, life: number, document: PolicyDocument): void {
    const { version, digest, entries } = document;
    adoptions.push({ node, life, atMs: world.nowMs, digest });
    if (policies?.kept === true) files.set(node, document);
    if (documents.has(digest)) return;
    documents.set(digest, { version, digest, entries: [...entries].map(([key, entry]) => ({ key, ...entry })) });
  }

  return {
    begin({ id, cluster }) {
      if (first === undefined) return;
      const life = (lives.get(id) ?? 0) + 1;
      lives.set(id, life);
      cluster.activePolicies.onChange((document) => held(id, life, document));
      cluster.activePolicies.adopt(files.get(id) ?? first);
    },
    look(cluster, planned) {
      const at = cluster.listening(planned.ifMatch!.node);
      if (at === undefined) return;
      world.deliver(at, (node) => {
        seen.set(planned, { version: node.cluster.activePolicies.document().version, seenMs: world.nowMs });
      });
    },
    write(cluster, planned) {
      const at = cluster.listening(planned.node);
      const ifMatch = seen.get(planned);
      if (at === undefined || (planned.ifMatch !== undefined && ifMatch === undefined)) return;
      const { changes } = planned;
      const call: PolicyWriteCall = {
        at,
        changes,
        ifMatch,
        askedMs: world.nowMs,
        answeredMs: undefined,
        outcome: undefined,
      };
      writes.push(call);
      world.note?.(`${at} is to write ${JSON.stringify(changes)}${ifMatch ? ` if ${ifMatch.version}` : ''}`);
      world.deliver(at, (node) => {
        const tags = ifMatch && [String(ifMatch.version)];
        void node.cluster.policies.write(new Map(changes), tags).then((outcome) => {
          if (node.state !== 'running') return;
          call.answeredMs = world.nowMs;
          const { kind } = outcome;
          // What else is known of it is known to the node alone that made it.
          call.outcome = kind === 'written' ? { kind, version: outcome.version, digest: outcome.digest } : outcome;
          world.note?.(`${at} says ${JSON.stringify(outcome)} to ${JSON.stringify(changes)}`);
        });
      });
    },
    note: (question) => void questions.push(question),
    history: { writes, adoptions, documents, questions },
  };
}
