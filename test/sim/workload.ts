import { inScope, ruleOf, withLimit, type Rule } from '../../src/limits/bucket/rule.js';
import type { Random } from './random.js';
import type { Request } from './scenario.js';

const HOUR_MS = 3_600_000;

const token = (limit: number, windowMs: number, capacity = limit, policy?: string): Rule =>
  ruleOf('token-bucket', limit, windowMs, capacity, policy);
const sliding = (limit: number, windowMs: number): Rule => ruleOf('sliding-window', limit, windowMs, limit, undefined);
/** One is the name of a policy. */
const SCOPES = [undefined, 'reports', 'gold'];

/** What one client may: several limits at once, or one. */
const LIMITS: readonly (readonly Rule[])[] = [
  [token(10, HOUR_MS)],
  [token(40, HOUR_MS)],
  [token(200, HOUR_MS)],
  [token(5, 1_000)],
  [token(100, 10_000, 20)],
  [token(1_000, 1_000, 30)],
  [token(3, 250)],
  [token(50, HOUR_MS, 50, 'gold')],
  [token(0, 1_000, 1)],
  [sliding(10, HOUR_MS)],
  [sliding(20, 2_000)],
  [sliding(5, 500)],
  [token(10, 1_000), sliding(60, HOUR_MS)],
  [token(4, 500), token(30, 60_000), sliding(25, 5_000)],
];

/** Of a client that asks all the time: at its limit from soon on, so that whatever is forgotten is admitted once more. */
const HOT_LIMITS: readonly (readonly Rule[])[] = [
  [token(50, 1_000)],
  [token(100, 2_000, 30)],
  [token(100, HOUR_MS)],
  [sliding(80, HOUR_MS)],
  [sliding(60, 1_000)],
];

/** A request before its time is known. */
type Ask = Omit<Request, 'atMs' | 'clientId'>;

/** How one client behaves. */
interface Character {
  readonly clientId: string;
  readonly rules: readonly Rule[];
  /** The limit that it has from some time on. */
  readonly later: readonly Rule[];
  readonly changesAtMs: number;
  readonly maxCost: number;
  readonly hops: boolean;
  readonly home: number;
  readonly names: boolean;
  /** Asks in several scopes. */
  readonly scoped: boolean;
  readonly peeks: boolean;
  readonly replicated: boolean;
  readonly patient: boolean;
}

/**
 * Requests of a few clients: evenly spread, one hot, in bursts, from one node or hopping between all.
 * @param scopes numbers of its own for scopes, so that most runs are what they would be without them
 */
export function generateRequests(random: Random, loadMs: number, scopes: Random): Request[] {
  const style = random.pick(['uniform', 'hot', 'bursts'] as const);
  const clients = Array.from({ length: random.between(4, 14) }, (_, i) =>
    drawCharacter(random, i, loadMs, style === 'hot' && i === 0 ? HOT_LIMITS : LIMITS, scopes.chance(0.3)),
  );
  const total = Math.floor(loadMs * random.pick([0.06, 0.12, 0.2]));
  const requests: Request[] = [];
  const ask = (client: Character, atMs: number): void => {
    const asked = drawAsk(random, client, atMs);
    const rules = client.scoped ? inScope(asked.rules, drawScope(scopes, asked.requestId)) : asked.rules;
    requests.push({ atMs, clientId: client.clientId, ...asked, rules });
  };
  while (requests.length < total) {
    const atMs = random.between(0, loadMs);
    const client = style === 'hot' && random.chance(0.7) ? clients[0]! : random.pick(clients);
    if (style === 'bursts') for (let n = random.between(1, 15); n > 0; n -= 1) ask(client, atMs + random.between(0, 3));
    else ask(client, atMs);
  }
  return requests.sort((a, b) => a.atMs - b.atMs);
}

function drawCharacter(
  random: Random,
  i: number,
  loadMs: number,
  limits: readonly (readonly Rule[])[],
  scoped: boolean,
): Character {
  const rules = random.pick(limits);
  const changes = random.chance(0.15);
  const factor = random.pick([0.5, 2]);
  return {
    // A name as hostile as a caller may choose.
    clientId: i === 3 ? '__proto__' : `client ${i}`,
    rules,
    later: changes ? rules.map((rule) => scaled(rule, factor)) : rules,
    changesAtMs: random.between(0, loadMs),
    maxCost: random.chance(0.3) ? 4 : 1,
    hops: random.chance(0.7),
    home: random.between(0, 8),
    names: random.chance(0.2),
    scoped,
    peeks: random.chance(0.2),
    replicated: random.chance(0.1),
    patient: random.chance(0.4),
  };
}

function scaled(rule: Rule, factor: number): Rule {
  const limit = Math.floor(rule.limit * factor);
  const capacity = Math.max(1, Math.floor(rule.capacity * factor));
  return withLimit(rule, limit, rule.algorithm === 'sliding-window' ? limit : capacity);
}

/** Half of the ids are those of items of batches. */
function drawRequestId(random: Random): string {
  const n = random.between(1, 50);
  return n > 25 ? `batch ${n >> 3}#${n & 7}` : `request ${n}`;
}

/** The same question under the same id. */
function drawScope(random: Random, requestId: string | undefined): string | undefined {
  return requestId === undefined ? random.pick(SCOPES) : SCOPES[requestId.charCodeAt(requestId.length - 1) % 3];
}

function drawAsk(random: Random, client: Character, atMs: number): Ask {
  return {
    node: client.hops ? random.between(0, 8) : client.home,
    rules: atMs >= client.changesAtMs ? client.later : client.rules,
    // The same question under the same id.
    cost: client.names ? client.maxCost : random.between(1, client.maxCost),
    peek: client.peeks && random.chance(0.3),
    // Some come twice.
    requestId: client.names ? drawRequestId(random) : undefined,
    replicated: client.replicated,
    retries: client.patient ? 3 : 0,
  };
}
