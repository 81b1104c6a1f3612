import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { createAccess } from '../server/edge/access/access.js';
import type { Access, AccessRules } from '../server/edge/access/access.js';
import type { Audit } from '../server/edge/access/audit.js';
import { readTokenFile, withAdminToken } from '../server/edge/access/token-file.js';
import { SettingsError } from './settings/settings.js';
import type { Settings } from './settings/setting-table.js';
import { watchFiles } from '../lib/watch-files.js';

export interface Guard {
  readonly access: Access;
  close(): void;
}

/**
 * Creates the access rules of the settings. The token file is read again when it changes. An invalid change of the file
 * is ignored.
 * @throws SettingsError when the file is not valid at the start
 */
export function createGuard(
  settings: Pick<Settings, 'tokens' | 'adminToken'>,
  { log, audit }: { log: Logger; audit: Audit },
): Guard {
  const { tokens: path, adminToken } = settings;
  if (path === undefined) {
    const access = createAccess(withAdminToken({ required: [], tokens: [] }, adminToken));
    return { access, close: () => undefined };
  }
  const read = (): AccessRules => withAdminToken(readTokenFile(readFileSync(path)), adminToken);
  let rules: AccessRules;
  try {
    rules = read();
  } catch (cause) {
    throw new SettingsError(`TOKENRING_TOKENS: ${path} is not valid: ${(cause as Error).message}`, { cause });
  }
  const access = createAccess(rules);
  const close = watchFiles([path], () => {
    try {
      const before = rules;
      rules = read();
      access.replace(rules);
      audit({ who: { file: path }, what: 'tokens read', before: shown(before), after: shown(rules) });
    } catch (error) {
      log.error({ path, reason: (error as Error).message }, 'the token file is not valid; keeping the tokens in force');
    }
  });
  return { access, close };
}

/** Describes the tokens for the audit log. The first digits of each digest show which token changed. */
function shown({ required, tokens }: AccessRules): object {
  const list = tokens.map(({ name, roles, digest }) => ({
    name,
    roles,
    sha256: `${digest.toString('hex').slice(0, 8)}…`,
  }));
  return { require: required, tokens: list };
}
