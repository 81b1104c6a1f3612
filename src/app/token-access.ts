import { readFileSync } from 'node:fs';
import type { Logger } from 'pino';
import { Access, readTokenFile, withAdminToken, type AccessRules } from '../server/edge/access.js';
import type { Audit } from '../server/edge/audit.js';
import { SettingsError } from './settings/settings.js';
import type { Settings } from './settings/setting-table.js';
import { watchFiles } from '../lib/files.js';

/** The access rules of the settings. The token file is read again when it changes. Closed with the node. */
export class TokenAccess {
  readonly access: Access;
  /** Ends the watch of the token file. */
  readonly close: () => void;

  /** @throws SettingsError when the token file is not valid */
  constructor({ tokens: path, adminToken }: Pick<Settings, 'tokens' | 'adminToken'>, log: Logger, audit: Audit) {
    if (path === undefined) {
      this.access = new Access(withAdminToken({ required: [], tokens: [] }, adminToken));
      this.close = () => undefined;
      return;
    }
    const read = (): AccessRules => withAdminToken(readTokenFile(readFileSync(path)), adminToken);
    let rules: AccessRules;
    try {
      rules = read();
    } catch (cause) {
      throw new SettingsError(`TOKENRING_TOKENS: ${path} is not valid: ${(cause as Error).message}`, { cause });
    }
    this.access = new Access(rules);
    this.close = watchFiles([path], () => {
      try {
        const before = rules;
        rules = read();
        this.access.replace(rules);
        audit({ who: { file: path }, what: 'tokens read', before: shown(before), after: shown(rules) });
      } catch (error) {
        const reason = (error as Error).message;
        log.error({ path, reason }, 'the token file is not valid; keeping the tokens in force');
      }
    });
  }
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
