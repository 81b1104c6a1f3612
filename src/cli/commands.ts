import { randomBytes } from 'node:crypto';
import { SettingsError } from '../app/settings/settings.js';
import type { ClientDescription } from '../limits/request/description.js';
import { digestOf, ROLES } from '../server/edge/access.js';
import type { Settlement } from '../limits/decide/decision.js';
import type { ClusterDescription } from '../server/http/api/cluster-view.js';
import { asciiJson } from '../lib/text.js';
import { print } from './print.js';
import { ask, FAILED, show, showProblem, table, type Run } from './remote.js';

const NUMBERS = ['limit', 'window', 'burst', 'cost'] as const;
/** `allow` prints JSON, also for a problem. */
const AS_JSON: ReadonlySet<string> = new Set(['json']);

export const allow: Run = async (input) => {
  const { limit, window, burst, cost, algorithm, policy, scope } = input.values;
  const numbers = Object.fromEntries(NUMBERS.map((name) => [name, number({ limit, window, burst, cost }[name])]));
  const body = { clientId: input.positionals[0], scope, ...numbers, algorithm, policy };
  const answer = await ask(input, '/v1/allow', { method: 'POST', body });
  if (answer === undefined) return FAILED;
  const { allowed } = Object(answer.body) as { allowed?: unknown };
  if (typeof allowed !== 'boolean') return showProblem(answer, { switches: AS_JSON, env: input.env });
  print(`${asciiJson(answer.body)}\n`);
  return allowed ? 0 : 1;
};

/** Parses a whole number. Other text goes to the node unchanged; its error names the field. */
function number(text: string | undefined): number | string | undefined {
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : text;
}

const pathOf = (clientId: string): string => `/v1/clients/${encodeURIComponent(clientId)}`;

export const describe: Run = async (input) => {
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
};

export const reset: Run = async (input) => {
  const clientId = input.positionals[0]!;
  return show(await ask(input, pathOf(clientId), { method: 'DELETE' }), input, () => `${clientId} is reset\n`);
};

export const owner: Run = async (input) => {
  const query = new URLSearchParams({ clientId: input.positionals[0]! });
  return show(await ask(input, `/v1/cluster/owner?${query.toString()}`), input, (body) => {
    const { owner: id, successors } = body as { owner: string; successors: readonly string[] };
    return `owner ${id}\nsuccessors ${successors.join(' ') || 'none'}\n`;
  });
};

export const settle: Run = async (input) => {
  const [reservation, cost] = input.positionals as [string, string];
  if (!/^\d{1,10}$/.test(cost))
    throw new SettingsError(`settle: COST ${JSON.stringify(cost)} is not valid, expected a whole number from 0 to 1e9`);
  const body = { reservation, cost: Number(cost) };
  const answer = await ask(input, '/v1/settle', { method: 'POST', body });
  return show(answer, input, (settled) => {
    const { clientId, cost: counted } = settled as { clientId: string } & Settlement;
    return `${clientId}: settled at ${counted}\n`;
  });
};

export const status: Run = async (input) =>
  show(await ask(input, '/v1/cluster'), input, (body) => asTable(body as ClusterDescription));

function asTable(cluster: ClusterDescription): string {
  const rows = cluster.members.map(({ id, state, share, version, silentMs }) => {
    const percent = `${(share * 100).toFixed(1)}%`;
    return [id === cluster.self ? `${id} (asked)` : id, state, percent, version, `${silentMs} ms`];
  });
  return `${table([['member', 'state', 'share', 'version', 'silent'], ...rows])}ring ${cluster.ringChecksum}\n`;
}

export const token: Run = ({ positionals: [name, ...roles], switches }) => {
  if (name === undefined || !/^[\w.@-]{1,64}$/.test(name))
    throw new SettingsError('token: expected a NAME of 1 to 64 letters, digits, ".", "_", "@" or "-"');
  const unknown = roles.find((role) => !(ROLES as readonly string[]).includes(role));
  if (roles.length === 0 || unknown !== undefined)
    throw new SettingsError(`token: expected a role: ${ROLES.join(' or ')}`);
  const secret = `tr_${randomBytes(32).toString('base64url')}`;
  const entry = { name, roles: [...new Set(roles)], sha256: digestOf(secret).toString('hex') };
  const text = `token: ${secret}\nentry: ${JSON.stringify(entry)}\n`;
  print(switches.has('json') ? `${JSON.stringify({ token: secret, entry })}\n` : text);
  return 0;
};
