import { asciiJson } from '../server/http/decisions/answer.js';
import type { Command } from './command.js';
import { ask, FAILED, REMOTE, showProblem } from './remote.js';

const NUMBERS = ['limit', 'window', 'burst', 'cost'] as const;

export const allow: Command = {
  usage: 'allow CLIENT (--limit N --window 1m | --policy NAME)',
  summary: 'Asks whether a client may make a request now, which is then counted. Prints the decision as JSON.',
  positionals: [1, 1],
  options: {
    limit: { value: 'N', meaning: 'requests per window' },
    window: { value: 'TIME', meaning: 'milliseconds, or 250ms, 10s, 1m, 1h, 1d' },
    burst: { value: 'N', meaning: 'capacity of the bucket, where it differs from the limit' },
    algorithm: { value: 'NAME', meaning: 'token-bucket (default) or sliding-window' },
    policy: { value: 'NAME', meaning: 'a named policy instead of a limit' },
    scope: { value: 'NAME', meaning: 'another set of buckets of the same client' },
    cost: { value: 'N', meaning: 'tokens that the request takes (default 1)' },
    ...REMOTE,
  },
  exits: { 0: 'allowed', 1: 'denied', 2: 'error' },
  examples: ['tokenring allow alice --limit 10 --window 1m', 'tokenring allow alice --policy api --url localhost:8081'],
  async run(input) {
    const { limit, window, burst, cost, algorithm, policy, scope } = input.values;
    const numbers = Object.fromEntries(NUMBERS.map((name) => [name, number({ limit, window, burst, cost }[name])]));
    const body = { clientId: input.positionals[0], scope, ...numbers, algorithm, policy };
    const answer = await ask(input, '/v1/allow', { method: 'POST', body });
    if (answer === undefined) return FAILED;
    const { allowed } = Object(answer.body) as { allowed?: unknown };
    if (typeof allowed !== 'boolean') return showProblem(answer, { switches: AS_JSON, env: input.env });
    process.stdout.write(`${asciiJson(answer.body)}\n`);
    return allowed ? 0 : 1;
  },
};

/** This command prints JSON, also for a problem. */
const AS_JSON: ReadonlySet<string> = new Set(['json']);

/** Parses a whole number. Other text goes to the node unchanged; its error names the field. */
function number(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}
