import { randomBytes } from 'node:crypto';
import { digestOf, ROLES } from '../server/edge/access/access.js';
import { SettingsError } from '../app/settings/settings.js';
import type { Command } from './command.js';

export const token: Command = {
  usage: 'token NAME ROLE…',
  summary: 'Makes a bearer token, and its entry for the file of TOKENRING_TOKENS. The entry does not reveal the token.',
  positionals: [0, 1 + ROLES.length],
  options: { json: { meaning: 'print both as JSON' } },
  exits: { 0: 'done', 2: 'error' },
  examples: ['tokenring token deploy admin', 'tokenring token shop decide read'],
  run({ positionals: [name, ...roles], switches }) {
    if (name === undefined || !/^[\w.@-]{1,64}$/.test(name))
      throw new SettingsError('token: expected a NAME of 1 to 64 letters, digits, ".", "_", "@" or "-"');
    const unknown = roles.find((role) => !(ROLES as readonly string[]).includes(role));
    if (roles.length === 0 || unknown !== undefined)
      throw new SettingsError(`token: expected a role: ${ROLES.join(' or ')}`);
    const secret = `tr_${randomBytes(32).toString('base64url')}`;
    const entry = { name, roles: [...new Set(roles)], sha256: digestOf(secret).toString('hex') };
    const text = `token: ${secret}\nentry: ${JSON.stringify(entry)}\n`;
    process.stdout.write(switches.has('json') ? `${JSON.stringify({ token: secret, entry })}\n` : text);
    return 0;
  },
};

/**
 * Returns the header with the token from `TOKENRING_TOKEN` in the environment. A flag would be visible in lists of
 * processes.
 */
export function tokenHeader(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const token = env['TOKENRING_TOKEN'];
  if (token === undefined || token === '') return {};
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new SettingsError('TOKENRING_TOKEN: the value given is not valid, expected printable ASCII without spaces');
  return { authorization: `Bearer ${token}` };
}
