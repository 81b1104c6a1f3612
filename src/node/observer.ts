import { DURATION_BOUNDS, SOURCES, type Source } from '../limits/decide/decision.js';
import { clientKey } from '../limits/ring/client-hash.js';
import type { NodeId } from '../limits/ring/ring.js';
import { mergeTop, type TopClients, type TopPart } from '../limits/top-clients.js';
import type { Counted } from '../lib/space-saving.js';
import type { Membership } from '../membership/membership.js';
import type { NodeReport, PeerAnswer, PeerMessage, TopQuery, ProcessReport, Ask } from '../protocol/messages.js';
import type { NodeStats } from './node-stats.js';
import { sumOfUses, type PolicyUse, type Use } from '../policy/policy-use.js';
import type { Clock } from '../lib/system.js';

/** The merged counts of the members. */
interface ClusterTop {
  readonly clients: readonly Counted[];
  /** Members that did not answer; what they counted is missing. */
  readonly missing: readonly NodeId[];
}

/** The requests under a policy to all members. */
interface ClusterUse extends Use {
  /** Members that did not answer; their callers may use the policy. */
  readonly missing: readonly NodeId[];
}

/** A client in a report, under the name of its policy, if it has one. */
interface ReportedClient {
  readonly clientId: string;
  readonly policy: string | undefined;
  readonly denied: number;
}

/**
 * Tells what this node and all others count.
 *
 * @param options.timeoutMs of each message to a peer
 */
export class Observer {
  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly membership: Membership;
      readonly ask: Ask;
      readonly topClients: TopClients;
      readonly policyUse: PolicyUse;
      readonly stats: () => NodeStats;
      readonly processReport?: (() => ProcessReport | undefined) | undefined;
    },
    private readonly options: { timeoutMs: number },
  ) {}

  topHere({ by, span, policy }: TopQuery): TopPart {
    return this.deps.topClients.top(by, span, policy, this.deps.clock.nowMs());
  }

  /** Counts the clients of a report among those that are denied and ask most. No decision looks at this. */
  countReported(clients: readonly ReportedClient[]): void {
    for (const { clientId, policy, denied } of clients)
      this.deps.topClients.add(clientKey(clientId), policy, denied, this.deps.clock.nowMs());
  }

  reportHere(): NodeReport {
    const { clients, replicationLagMs, forwardsWaiting } = this.deps.stats();
    return { ...(this.deps.processReport?.() ?? EMPTY), clients, replicationLagMs, forwardsWaiting };
  }

  useHere(name: string): Use {
    return this.deps.policyUse.inLastHour(name);
  }

  /** The requests under a policy in the last hour, over all members. */
  async use(name: string): Promise<ClusterUse> {
    const uses: Use[] = [this.useHere(name)];
    const missing: NodeId[] = [];
    for (const [id, answer] of await this.askAll({ kind: 'use', name })) {
      if (answer?.kind === 'use') uses.push(answer.use);
      else missing.push(id);
    }
    return { ...sumOfUses(uses), missing };
  }

  /** The clients with the largest counts over all members. */
  async top(query: TopQuery, limit: number): Promise<ClusterTop> {
    const parts: TopPart[] = [this.topHere(query)];
    const missing: NodeId[] = [];
    for (const [id, answer] of await this.askAll({ kind: 'top', ...query })) {
      if (answer?.kind === 'top') parts.push(answer);
      else missing.push(id);
    }
    return { clients: mergeTop(parts, limit), missing };
  }

  /** The report of each member; `undefined` for one that did not answer. */
  async reports(): Promise<ReadonlyMap<NodeId, NodeReport | undefined>> {
    const reports = new Map<NodeId, NodeReport | undefined>([[this.deps.membership.self().id, this.reportHere()]]);
    for (const [id, answer] of await this.askAll({ kind: 'report' })) {
      reports.set(id, answer?.kind === 'report' ? answer.report : undefined);
    }
    return reports;
  }

  /** Asks all other members that are up. Those that do not answer have `undefined`. */
  private async askAll(message: PeerMessage): Promise<Map<NodeId, PeerAnswer | undefined>> {
    const answers = new Map<NodeId, PeerAnswer | undefined>();
    await Promise.all(
      this.deps.membership.others().map(async (id) => {
        answers.set(id, undefined);
        if (this.deps.membership.isDown(id)) return;
        const asked = await this.deps.ask(id, message, this.options.timeoutMs);
        if (asked.kind === 'answer') answers.set(id, asked.body);
      }),
    );
    return answers;
  }
}

const NONE = Object.fromEntries(SOURCES.map((source) => [source, 0])) as Readonly<Record<Source, number>>;
const EMPTY: ProcessReport = {
  allowed: NONE,
  denied: NONE,
  problems: 0,
  durations: new Array<number>(DURATION_BOUNDS.length + 1).fill(0),
  busyMs: 0,
  uptimeMs: 0,
  memoryBytes: 0,
  memoryBudgetBytes: 0,
};
