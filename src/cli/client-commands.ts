import type { ClientDescription } from '../limits/request/description.js';
import { SettingsError } from '../app/settings/settings.js';
import type { Command } from './command.js';
import { ask, REMOTE, show, table } from './remote.js';

const EXITS = { 0: 'done', 2: 'error' } as const;
const pathOf = (clientId: string): string => `/v1/clients/${encodeURIComponent(clientId)}`;

export const describe: Command = {
  usage: 'describe CLIENT',
  summary: 'Shows the buckets of a client, and consumes nothing.',
  positionals: [1, 1],
  options: REMOTE,
  exits: EXITS,
  examples: ['tokenring describe alice', 'tokenring describe alice --json'],
  async run(input) {
    return show(await ask(input, pathOf(input.positionals[0]!)), input, (body) => {
      const { clientId, owner, buckets } = body as ClientDescription;
      const rows = buckets.map(({ scope, policy, algorithm, windowMs, limit, remaining, resetMs }) => [
        scope ?? '-',
        policy ?? '-',
        algorithm,
        `${windowMs} ms`,
        String(limit),
        String(remaining),
        `${resetMs} ms`,
      ]);
      const head = `${clientId}, owned by ${owner}\n`;
      if (rows.length === 0) return `${head}no bucket: nothing is consumed\n`;
      return head + table([['scope', 'policy', 'algorithm', 'window', 'limit', 'remaining', 'reset'], ...rows]);
    });
  },
};

export const reset: Command = {
  usage: 'reset CLIENT',
  summary: 'Forgets the consumption of a client on all nodes. Needs the role admin.',
  positionals: [1, 1],
  options: REMOTE,
  exits: EXITS,
  examples: ['TOKENRING_TOKEN=… tokenring reset alice'],
  async run(input) {
    const clientId = input.positionals[0]!;
    return show(await ask(input, pathOf(clientId), { method: 'DELETE' }), input, () => `${clientId} is reset\n`);
  },
};

export const owner: Command = {
  usage: 'owner CLIENT',
  summary: 'Shows which node decides for a client, and which nodes follow.',
  positionals: [1, 1],
  options: REMOTE,
  exits: EXITS,
  examples: ['tokenring owner alice'],
  async run(input) {
    const query = new URLSearchParams({ clientId: input.positionals[0]! });
    return show(await ask(input, `/v1/cluster/owner?${query.toString()}`), input, (body) => {
      const { owner: id, successors } = body as { owner: string; successors: readonly string[] };
      return `owner ${id}\nsuccessors ${successors.join(' ') || 'none'}\n`;
    });
  },
};

export const settle: Command = {
  usage: 'settle RESERVATION COST',
  summary: 'Replaces a reserved cost by the real one. Repeating it counts once.',
  positionals: [2, 2],
  options: REMOTE,
  exits: EXITS,
  examples: ['tokenring settle 5f1c… 3'],
  async run(input) {
    const [reservation, cost] = input.positionals as [string, string];
    if (!/^\d{1,10}$/.test(cost))
      throw new SettingsError(
        `settle: COST ${JSON.stringify(cost)} is not valid, expected a whole number from 0 to 1e9`,
      );
    const body = { reservation, cost: Number(cost) };
    const answer = await ask(input, '/v1/settle', { method: 'POST', body });
    return show(answer, input, (settled) => {
      const { clientId, charged } = settled as { clientId: string; charged?: number };
      return `${clientId}: settled at ${charged ?? cost}\n`;
    });
  },
};
