import { hash, timingSafeEqual } from 'node:crypto';
import { Type } from '@sinclair/typebox';
import { TokenringError } from '../../lib/error.js';
import { parseJson } from '../validate/json.js';
import { object, Validator } from '../validate/validator.js';

/** Permissions of a token: to read, to ask for decisions, to change things. `admin` includes the others. */
export const ROLES = ['read', 'decide', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** A bearer token in the node's memory: only its digest. */
interface KnownToken {
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
  authorize(authorization: string | undefined, role: Role): string | undefined {
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

/** The digest of a token. */
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

/** Bound of the tokens, as a request with a token is compared with each of them. */
const MAX_TOKENS = 100;

const RoleSchema = Type.Union(ROLES.map((role) => Type.Literal(role)));
const TokenFileSchema = object({
  require: Type.Optional(Type.Array(RoleSchema, { uniqueItems: true })),
  tokens: Type.Array(
    object({
      name: Type.String({ pattern: '^[\\w.@-]{1,64}$' }),
      roles: Type.Array(RoleSchema, { minItems: 1, uniqueItems: true }),
      sha256: Type.String({ pattern: '^[\\da-f]{64}$' }),
    }),
    { maxItems: MAX_TOKENS },
  ),
});
/** Messages quote nothing of the file. */
const tokenFile = new Validator(TokenFileSchema, { quotes: false });

/**
 * Reads `{ "require": ["decide"], "tokens": [{ "name": "ci", "roles": ["admin"], "sha256": "…" }] }`.
 * @throws TokenringError that names the field; it quotes nothing of the file
 */
export function readTokenFile(content: Buffer): AccessRules {
  const value = tokenFile.read(parsed(content));
  const tokens = value.tokens.map(({ name, roles, sha256 }): KnownToken => {
    return { name, roles, digest: Buffer.from(sha256, 'hex') };
  });
  tokens.forEach(({ name, digest }, i) => {
    const twin = tokens.findIndex((other) => other.name === name || other.digest.equals(digest));
    if (twin < i)
      throw new TokenringError('invalid_request', {
        field: `tokens[${i}]`,
        expected: `another name and token than tokens[${twin}]`,
      });
  });
  return { required: value.require ?? [], tokens };
}

function parsed(content: Buffer): unknown {
  try {
    return parseJson(content);
  } catch (cause) {
    // The parser's message would quote the file, which may hold a token by mistake.
    throw new TokenringError('invalid_json', { field: (cause as TokenringError).field, expected: 'JSON' }, { cause });
  }
}

/** Combines the rules of the file with the admin token of the settings, which has every role. */
export function withAdminToken(rules: AccessRules, adminToken: string | undefined): AccessRules {
  if (adminToken === undefined) return rules;
  const admin: KnownToken = { name: 'TOKENRING_ADMIN_TOKEN', roles: ['admin'], digest: digestOf(adminToken) };
  return { ...rules, tokens: [...rules.tokens, admin] };
}
