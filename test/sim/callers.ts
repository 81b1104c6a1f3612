import type { Decision } from '../../src/limits/decide/decision.js';
import { clientKey } from '../../src/limits/ring/client-hash.js';
import { readBatchItemId } from '../../src/limits/request/request.js';
import { CheckBatch, decideAlone } from '../../src/limits/decide/check-batch.js';
import { createCheck, type Check } from '../../src/limits/decide/check.js';
import { TokenringError } from '../../src/lib/error.js';
import type { Cluster } from './cluster.js';
import { codeOf } from './code-of.js';
import type { Asked, Question, SettleCall } from './history.js';
import type { Operators } from './operators.js';
import type { Request, SettlePlan } from './scenario.js';
import type { SimNode, World } from './world.js';

/** Those who ask, and what they were told. */
export interface Callers {
  /** Asks the wanted node, or the next that listens, as a load balancer would. */
  ask(request: Request): void;
  readonly asked: readonly Asked[];
  readonly settles: readonly SettleCall[];
}

export function createCallers(
  { cluster, operators, world }: { cluster: Cluster; operators: Operators; world: World },
  { endMs }: { endMs: number },
): Callers {
  const asked: Asked[] = [];
  const settles: SettleCall[] = [];

  function ask(request: Request): void {
    const at = cluster.listening(request.node);
    if (at === undefined) return;
    const { clientId, rules, cost, peek, requestId, replicated, settles: plans } = request;
    const id = asked.length;
    const reservation = plans === undefined ? undefined : (requestId ?? `reservation ${id}`);
    const check = createCheck(clientKey(clientId), rules, { cost, peek, requestId, replicated, reservation });
    const one: Asked = { id, at, askedMs: world.nowMs, check, answeredMs: undefined, decision: undefined };
    asked.push(one);
    world.note?.(`#${one.id} ${clientId} asks ${at} for ${cost}`);
    world.deliver(at, (node) => {
      const question = request.policy === undefined ? undefined : resolve(one, request.policy, node);
      if (question !== undefined && question.rules === undefined) {
        one.answeredMs = world.nowMs;
        return;
      }
      const answered = (decision: Decision): void => {
        if (node.state !== 'running') return;
        one.answeredMs = world.nowMs;
        world.note?.(`#${one.id} ${clientId} ${JSON.stringify(decision)}`);
        if (question !== undefined) question.decision = decision;
        // For who is listed nothing is counted.
        if (one.check.terms?.listed !== undefined) one.check = { ...one.check, rules: [] };
        else one.decision = decidedBehind(decision);
        for (const plan of plans ?? []) if (decision.reservation !== undefined) settleLater(one, plan);
        const { allowed, retryAfterMs } = decision;
        if (allowed || retryAfterMs === null || request.retries === 0 || world.nowMs + retryAfterMs > endMs) return;
        const again = { ...request, node: request.node + 1, retries: request.retries - 1 };
        world.after(retryAfterMs, () => ask(again));
      };
      const refused = (error: unknown): void => {
        if (codeOf(error) !== 'overloaded') throw error;
        if (node.state !== 'running') return;
        one.answeredMs = world.nowMs;
        one.overloaded = true;
        world.note?.(`#${one.id} ${clientId} overloaded`);
      };
      void Promise.resolve(decide(node, one.check)).then(answered, refused);
    });
  }

  /** Asks as an item of a batch where the request id is that of one, and alone otherwise. */
  function decide(node: SimNode, check: Check): Decision | Promise<Decision> {
    const { checks } = node.cluster;
    const item = readBatchItemId(check.requestId ?? '');
    // An SDK repeats an item alone, or the whole batch.
    if (item === undefined || check.peek || asked.length % 3 === 0) return decideAlone(checks, check);
    const batch = new CheckBatch(undefined, item.batchId);
    while (batch.size < item.index) batch.addError(new TokenringError('invalid_request'));
    const added = batch.add(check);
    const later = checks.decide(batch);
    return later === undefined ? added.decision : later.then(() => added.decision);
  }

  /** What the API does with a policy's name. */
  function resolve(one: Asked, policy: string | null, node: SimNode): Question {
    const { clientId } = one.check;
    const { activePolicies } = node.cluster;
    const resolved = activePolicies.resolve(clientId, policy ?? undefined);
    const listed = activePolicies.listed(clientId);
    const question: Question = {
      at: one.at,
      atMs: world.nowMs,
      clientId,
      policy,
      digest: activePolicies.document().digest,
      rules: resolved?.rules,
      replicated: resolved?.policy.replicated === true,
      decision: undefined,
    };
    operators.note(question);
    one.check = {
      ...one.check,
      rules: resolved?.rules ?? [],
      replicated: one.check.replicated || question.replicated,
      terms: resolved && { policy: resolved.policy, listed },
    };
    return question;
  }

  function settleLater(of: Asked, { afterMs, node: wanted, cost }: SettlePlan): void {
    world.after(afterMs, () => {
      const at = cluster.listening(wanted);
      if (at === undefined || world.nowMs > endMs) return;
      const call: SettleCall = { at, of, cost, askedMs: world.nowMs, answeredMs: undefined, outcome: undefined };
      settles.push(call);
      const { clientId, reservation } = of.check;
      world.note?.(`${at} is to settle #${of.id} of ${clientId} at ${cost}`);
      world.deliver(at, (node) => {
        void node.cluster.settler.settle(clientId, reservation!, cost).then((outcome) => {
          if (node.state !== 'running') return;
          call.answeredMs = world.nowMs;
          call.outcome = outcome;
          world.note?.(`${at} says ${JSON.stringify(outcome)} of #${of.id}`);
        });
      });
    });
  }

  return { ask, asked, settles };
}

/** What was decided where a policy is on trial. */
function decidedBehind({ shadow, ...decision }: Decision): Decision {
  return shadow === undefined ? decision : { ...decision, ...shadow };
}
