import { randomBytes } from 'node:crypto';
import { digestOf, ROLES } from '../http/access/access.js';
import { SettingsError } from '../settings.js';

/** `tokenring token NAME ROLE…`: a new token, and what of it goes into the file of `TOKENRING_TOKENS`. */
export function makeToken([name, ...roles]: readonly string[]): void {
  if (name === undefined || !/^[\w.@-]{1,64}$/.test(name)) {
    throw new SettingsError('token: expected a NAME of 1 to 64 letters, digits, ".", "_", "@" or "-"');
  }
  const unknown = roles.find((role) => !(ROLES as readonly string[]).includes(role));
  if (roles.length === 0 || unknown !== undefined)
    throw new SettingsError(`token: expected a role: ${ROLES.join(' or ')}`);
  const token = `tr_${randomBytes(32).toString('base64url')}`;
  const entry = { name, roles: [...new Set(roles)], sha256: digestOf(token).toString('hex') };
  process.stdout.write(`token: ${token}\nentry: ${JSON.stringify(entry)}\n`);
}

/** The header that shows the token of the environment's `TOKENRING_TOKEN`, which no list of processes shows, as it would a flag. */
export function tokenHeader(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const token = env['TOKENRING_TOKEN'];
  if (token === undefined || token === '') return {};
  if (!/^[\x21-\x7e]+$/.test(token))
    throw new SettingsError('TOKENRING_TOKEN: the value given is not valid, expected printable ASCII without spaces');
  return { authorization: `Bearer ${token}` };
}
