import { hash, timingSafeEqual } from 'node:crypto';
import { TokenringError } from '../../../lib/error.js';

/** Permissions of a token: to read, to ask for decisions, to change things. `admin` includes the others. */
export const ROLES = ['read', 'decide', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A bearer token in the node's memory: only its digest. */
export interface KnownToken {
  /** The name in the audit log. */
  readonly name: string;
  readonly roles: readonly Role[];
  /** SHA-256, which is enough for a long random token that no word list contains. */
  readonly digest: Buffer;
}

export interface AccessRules {
  /** Roles that need a token; `admin` always does. */
  readonly required: readonly Role[];
  readonly tokens: readonly KnownToken[];
}

/** Decides which callers may use which role, by their tokens. */
export class Access {
  private rules: AccessRules;
  private required = new Set<Role>();
  private revisionNumber = 0;

  constructor(initial: AccessRules) {
    this.rules = initial;
    this.replace(initial);
  }

  /** Whether decisions need a token. */
  guardsDecisions(): boolean {
    return this.required.has('decide');
  }

  /** Changes when the rules are replaced. */
  revision(): number {
    return this.revisionNumber;
  }

  /** Returns the name of a token; `undefined` if the node does not know it. */
  nameOf(token: string): string | undefined {
    return findToken(this.rules.tokens, token)?.name;
  }

  /**
   * Checks a caller that wants to use this role.
   * @param authorization the header
   * @returns the name of the token; `undefined` when none is needed
   * @throws TokenringError `forbidden` when no token of the node has the role, or the token shown lacks it;
   * `unauthorized` when the token is missing or unknown
   */
  admit(authorization: string | undefined, role: Role): string | undefined {
    if (!this.required.has(role)) return undefined;
    const able = this.rules.tokens.filter(({ roles }) => allows(roles, role));
    if (able.length === 0)
      throw new TokenringError('forbidden', {
        detail: `no token of the node has the role ${role}; start the node with TOKENRING_ADMIN_TOKEN or TOKENRING_TOKENS`,
      });
    const text = /^Bearer +(.+)$/i.exec(authorization ?? '')?.[1];
    const shown = text === undefined ? undefined : findToken(this.rules.tokens, text);
    if (shown === undefined)
      throw new TokenringError('unauthorized', {
        field: 'Authorization',
        expected: `Bearer and a token with the role ${role}`,
      });
    if (!allows(shown.roles, role))
      throw new TokenringError('forbidden', { field: 'Authorization', expected: `a token with the role ${role}` });
    return shown.name;
  }

  /** Replaces the rules, beginning with the next request. */
  replace(next: AccessRules): void {
    this.rules = next;
    this.revisionNumber += 1;
    this.required = new Set<Role>(['admin', ...next.required]);
  }
}

export function digestOf(token: string): Buffer {
  return hash('sha256', token, 'buffer');
}

function allows(roles: readonly Role[], role: Role): boolean {
  return roles.includes(role) || roles.includes('admin');
}

/** Compares with every token in full, so that the time reveals nothing about any token. */
function findToken(tokens: readonly KnownToken[], shown: string): KnownToken | undefined {
  const digest = digestOf(shown);
  let found: KnownToken | undefined;
  for (const token of tokens) if (timingSafeEqual(token.digest, digest)) found = token;
  return found;
}
