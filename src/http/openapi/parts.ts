import { HTTP_ERRORS } from '../../core/error.js';
import type { HttpErrorCode } from '../../core/error.js';

/** Shared parts of the operations of the OpenAPI document. */

export function inPath(name: string, description?: string): object {
  return { name, in: 'path', required: true, description, schema: { type: 'string' } };
}

export function inQuery(name: string, schema: object, description: string): object {
  return { name, in: 'query', description, schema };
}

function inHeader(name: string, required: boolean, description: string): object {
  return { name, in: 'header', required, description, schema: { type: 'string' } };
}

export const GATEWAY_HEADERS = [
  inHeader('X-Tokenring-Policy', true, 'the name of a policy'),
  inHeader('X-Tokenring-Client', false, 'the client: 1 to 256 bytes of UTF-8, not decoded further'),
  inHeader(
    'X-Tokenring-Client-From',
    false,
    'instead of X-Tokenring-Client: the name of the header whose value is the client',
  ),
  inHeader('X-Tokenring-Cost', false, 'a whole number from 1 to 1000000000; default 1'),
];

/** Describes the operations of a gateway that asks with the method of its caller. */
export function askedWithAnyMethod(operationId: string, gateway: string): Record<string, object> {
  const methods = ['get', 'head', 'post', 'put', 'patch', 'delete', 'options', 'trace'];
  return Object.fromEntries(
    methods.map((method) => [
      method,
      {
        operationId: `${operationId}${method === 'get' ? '' : `By${method[0]!.toUpperCase()}${method.slice(1)}`}`,
        summary: `Decide for ${gateway}, which may ask with any method; a body is not read`,
        parameters: GATEWAY_HEADERS,
        responses: {
          200: decisionAnswer('allowed', 'GatewayDecision'),
          429: decisionAnswer('denied, whatever TOKENRING_DENIED_STATUS is', 'GatewayDecision'),
          ...problems('invalid_request', 'gateway_unauthorized', 'overloaded'),
        },
      },
    ]),
  );
}

/** Describes GET, PUT, and DELETE of an entry of the policies. */
export function entryOperations(name: string, what: string, schema: string): Record<string, object> {
  const version = { ETag: { description: 'the version, for If-Match', schema: { type: 'string' } } };
  const found = { ...answer(`${what}, and the version`, ref(schema)), headers: version };
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
  const write = { security: [{ admin: [] }], parameters: [ifMatch] };
  return {
    get: { operationId: `get${name}`, summary: `Show ${what}`, responses: { 200: found, ...problems('not_found') } },
    put: {
      operationId: `put${name}`,
      summary: `Set ${what}, on every node`,
      ...write,
      parameters: [ifMatch, ifNoneMatch],
      requestBody: jsonBody(ref(schema)),
      responses: { 200: found, ...refused, ...problems('too_many_policies', 'unavailable') },
    },
    delete: {
      operationId: `delete${name}`,
      summary: `Delete ${what}, on every node`,
      ...write,
      responses: { 200: answer('the version', { type: 'object' }), ...refused, ...problems('unavailable') },
    },
  };
}

export function ref(name: string): { $ref: string } {
  return { $ref: `#/components/schemas/${name}` };
}

export function jsonBody(schema: object): object {
  return { required: true, content: { 'application/json': { schema } } };
}

export function answer(description: string, schema: object): object {
  return { description, content: { 'application/json': { schema } } };
}

export function decisionAnswer(description: string, schema = 'Decision'): object {
  return { ...answer(description, ref(schema)), headers: rateLimitHeaders() };
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
  for (const code of codes) answers[HTTP_ERRORS[code].status] = problemAnswer(HTTP_ERRORS[code].title);
  return answers;
}

export function problemAnswer(description: string): object {
  return { description, content: { 'application/problem+json': { schema: ref('Problem') } } };
}

export function plain(
  operationId: string,
  summary: string,
  description: string,
  ...codes: readonly HttpErrorCode[]
): object {
  const text = { description, content: { 'text/plain': { schema: { type: 'string' } } } };
  return { operationId, summary, responses: { 200: text, ...problems(...codes) } };
}
