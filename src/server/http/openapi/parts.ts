import { HTTP_ERRORS } from '../../../lib/error.js';
import type { HttpErrorCode } from '../../../lib/error.js';
import type { Role } from '../../edge/access/access.js';
import { CALLER, GATEWAY_ALLOWED, GATEWAY_DENIED, POLICY, problemExample } from './examples.js';
import type { EntryExamples, Examples } from './examples.js';

/** Shared parts of the operations of the OpenAPI document. */

/** Says that an operation needs no token, ever. */
export const OPEN: readonly object[] = [];
/** Says that an operation always needs a token with the role `admin`. */
export const ADMIN: readonly object[] = [{ token: ['admin'] }];

/** Says that an operation needs a token with this role if the token file of the node requires the role. */
export function maybe(role: Exclude<Role, 'admin'>): readonly object[] {
  return [{}, { token: [role] }];
}

export function inPath(name: string, example: string, description?: string): object {
  return { name, in: 'path', required: true, description, example, schema: { type: 'string' } };
}

export function inQuery(name: string, schema: object, description: string): object {
  return { name, in: 'query', description, schema };
}

function inHeader(name: string, required: boolean, description: string, example?: string): object {
  return { name, in: 'header', required, description, example, schema: { type: 'string' } };
}

export const GATEWAY_HEADERS = [
  inHeader('X-Tokenring-Policy', true, 'the name of a policy', POLICY),
  inHeader('X-Tokenring-Client', false, 'the client: 1 to 256 bytes of UTF-8, not decoded further', CALLER),
  inHeader(
    'X-Tokenring-Client-From',
    false,
    'instead of X-Tokenring-Client: the name of the header whose value is the client',
  ),
  inHeader('X-Tokenring-Cost', false, 'a whole number from 1 to 1000000000; default 1', '1'),
  inHeader('X-Tokenring-Scope', false, 'another set of buckets of the same client: 1 to 128 bytes of UTF-8', 'reports'),
];

/** Describes the operations of a gateway that asks with the method of its caller. */
export function askedWithAnyMethod(operationId: string, gateway: string): Record<string, object> {
  const methods = ['get', 'head', 'post', 'put', 'patch', 'delete', 'options', 'trace'];
  const decision = (description: string, example: object): object => {
    return { ...answer(description, ref('GatewayDecision'), example), headers: rateLimitHeaders() };
  };
  return Object.fromEntries(
    methods.map((method) => [
      method,
      {
        operationId: `${operationId}${method === 'get' ? '' : `By${method[0]!.toUpperCase()}${method.slice(1)}`}`,
        summary: `Decide for ${gateway}, which may ask with any method; a body is not read`,
        parameters: GATEWAY_HEADERS,
        security: maybe('decide'),
        responses: {
          200: decision('allowed', GATEWAY_ALLOWED),
          429: decision('denied, with any TOKENRING_DENIED_STATUS', GATEWAY_DENIED),
          ...problems('invalid_request', 'gateway_unauthorized', 'overloaded'),
        },
      },
    ]),
  );
}

const NO_MORE = { parameters: [], refusals: [] };

/** Describes GET, PUT, and DELETE of an entry of the policies. */
export function entryOperations(
  name: string,
  what: string,
  schema: string,
  { sent, found, deleted }: EntryExamples,
  deletion: { readonly parameters: readonly object[]; readonly refusals: readonly HttpErrorCode[] } = NO_MORE,
): Record<string, object> {
  const version = { ETag: { description: 'the version, for If-Match', schema: { type: 'string' } } };
  const entry = { ...answer(`${what}, and the version`, ref(schema), found), headers: version };
  const ifMatch = {
    name: 'If-Match',
    in: 'header',
    description: 'a version or an ETag; if the policies have another version, the answer is 412',
    schema: { type: 'string' },
  };
  const ifNoneMatch = {
    name: 'If-None-Match',
    in: 'header',
    description: '`*`; if the entry exists, the answer is 412',
    schema: { type: 'string', enum: ['*'] },
  };
  const refused = problems('invalid_request', 'unauthorized', 'forbidden', 'not_found', 'precondition_failed');
  return {
    get: {
      operationId: `get${name}`,
      summary: `Show ${what}`,
      security: maybe('read'),
      responses: { 200: entry, ...problems('not_found') },
    },
    put: {
      operationId: `put${name}`,
      summary: `Set ${what}, on every node`,
      security: ADMIN,
      parameters: [ifMatch, ifNoneMatch],
      requestBody: jsonBody(ref(schema), sent),
      responses: { 200: entry, ...refused, ...problems('too_many_policies', 'unavailable') },
    },
    delete: {
      operationId: `delete${name}`,
      summary: `Delete ${what}, on every node`,
      security: ADMIN,
      parameters: [ifMatch, ...deletion.parameters],
      responses: {
        200: answer('the version', ref('Deleted'), deleted),
        ...refused,
        ...problems('unavailable', ...deletion.refusals),
      },
    },
  };
}

export function ref(name: string): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` };
}

export function jsonBody(schema: object, example: object): object {
  return { required: true, content: { 'application/json': { schema, example } } };
}

/** Describes a body with several examples. */
export function jsonBodies(schema: object, examples: Examples): object {
  return { required: true, content: { 'application/json': { schema, examples: named(examples) } } };
}

export function answer(description: string, schema: object, example: object): object {
  return { description, content: { 'application/json': { schema, example } } };
}

/** Describes a decision with an example for each request that gets it. */
export function decisionAnswer(description: string, examples: Examples): object {
  const content = { 'application/json': { schema: ref('Decision'), examples: named(examples) } };
  return { description, content, headers: rateLimitHeaders() };
}

/** Names are those of people; keys of the document take no spaces. */
function named(examples: Examples): object {
  return Object.fromEntries(
    Object.entries(examples).map(([name, value]) => [name.replaceAll(' ', '-'), { summary: name, value }]),
  );
}

export function rateLimitHeaders(): object {
  const text = (meaning: string): object => ({ description: meaning, schema: { type: 'string' } });
  return {
    'RateLimit-Policy': text('draft-ietf-httpapi-ratelimit-headers-11'),
    RateLimit: text('draft-ietf-httpapi-ratelimit-headers-11'),
    'Retry-After': text('on a denial that time can lift: whole seconds, rounded up'),
  };
}

/** Describes the likely problems of an operation, and a default for all others. */
export function problems(...codes: readonly HttpErrorCode[]): Record<string, object> {
  const answers: Record<string, object> = { default: { $ref: '#/components/responses/Problem' } };
  for (const code of codes) answers[HTTP_ERRORS[code].status] = problemAnswer(HTTP_ERRORS[code].title, code);
  return answers;
}

/** @param code the problem of the example */
export function problemAnswer(description: string, code: HttpErrorCode): object {
  return {
    description,
    content: { 'application/problem+json': { schema: ref('Problem'), example: problemExample(code) } },
  };
}

export function eventStream(description: string, example: string): object {
  return { description, content: { 'text/event-stream': { schema: { type: 'string' }, example } } };
}

export function plain(description: string, example: string): object {
  return { description, content: { 'text/plain': { schema: { type: 'string' }, example } } };
}
