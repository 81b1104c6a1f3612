import { Type } from '@sinclair/typebox';
import { TypeCompiler } from '@sinclair/typebox/compiler';
import { digestOf, ROLES, type AccessRules, type KnownToken } from './access.js';
import { parseJson } from '../../validate/json.js';
import { TokenringError } from '../../../lib/error.js';
import { problemOf } from '../../validate/schema-error.js';

const strict = { additionalProperties: false };
/** Bound of the tokens, as a request with a token is compared with each of them. */
const MAX_TOKENS = 100;

const RoleSchema = Type.Union(ROLES.map((role) => Type.Literal(role)));
const TokenFileSchema = Type.Object(
  {
    require: Type.Optional(Type.Array(RoleSchema, { uniqueItems: true })),
    tokens: Type.Array(
      Type.Object(
        {
          name: Type.String({ pattern: '^[\\w.@-]{1,64}$' }),
          roles: Type.Array(RoleSchema, { minItems: 1, uniqueItems: true }),
          sha256: Type.String({ pattern: '^[\\da-f]{64}$' }),
        },
        strict,
      ),
      { maxItems: MAX_TOKENS },
    ),
  },
  strict,
);
const tokenFile = TypeCompiler.Compile(TokenFileSchema);

/**
 * Reads `{ "require": ["decide"], "tokens": [{ "name": "ci", "roles": ["admin"], "sha256": "…" }] }`.
 * @throws TokenringError that names the field; it quotes nothing of the file
 */
export function readTokenFile(content: Buffer): AccessRules {
  const value = parsed(content);
  if (!tokenFile.Check(value)) throw problemOf(tokenFile.Errors(value), false);
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
