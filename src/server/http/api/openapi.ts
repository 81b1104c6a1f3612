import type { TSchema } from '@sinclair/typebox';
import type { RequestHandler } from 'express';
import type { Role } from '../../edge/access.js';
import { HTTP_ERRORS, type HttpErrorCode } from '../../../lib/error.js';
import { ProblemSchema } from '../../validate/schema.js';
import { CLIENT, POLICY, problemExample, type Examples } from './examples.js';

/** A group of addresses in the document. */
export interface Group {
  readonly name: string;
  readonly description: string;
  readonly paths: Paths;
}

/** By address, as in OpenAPI: `/v1/clients/{clientId}`. */
export type Paths = Readonly<Record<string, PathItem>>;

/** The operations of an address. With `all`, this handler answers all methods, and checks roles itself. */
export type PathItem = Partial<Readonly<Record<Method, Operation>>> & { readonly all?: RequestHandler };

export interface Operation {
  readonly id: string;
  readonly summary: string;
  /** The role that a token needs: always for `admin`; for others if the token file of the node requires them. */
  readonly role: Role | 'open';
  readonly parameters?: readonly Parameter[];
  readonly body?: Content;
  readonly answers: Readonly<Record<number, Answer>>;
  /** The likely problems, apart from those that every operation with this role or a body may have. */
  readonly problems?: readonly HttpErrorCode[];
  readonly handle?: RequestHandler;
}

export interface Parameter {
  readonly name: string;
  readonly in: 'query' | 'header';
  readonly description?: string;
  readonly schema: TSchema;
  readonly required?: boolean;
  readonly example?: unknown;
}

/** A body in JSON, or a text where there is no schema. */
export interface Content {
  readonly type?: string;
  readonly schema?: TSchema;
  /** One example, or several by name. An answer has the name of the request that it belongs to. */
  readonly example?: unknown;
  readonly examples?: Examples;
}

export interface Answer extends Content {
  readonly description: string;
  readonly headers?: 'rate limit' | 'version';
}

export const METHODS = ['get', 'head', 'post', 'put', 'patch', 'delete', 'options', 'trace'] as const;
export type Method = (typeof METHODS)[number];

const TEXT = { type: 'string' };
const RATE_LIMIT = { description: 'draft-ietf-httpapi-ratelimit-headers-11', schema: TEXT };
const HEADERS: Readonly<Record<NonNullable<Answer['headers']>, object>> = {
  'rate limit': {
    'RateLimit-Policy': RATE_LIMIT,
    RateLimit: RATE_LIMIT,
    'Retry-After': { description: 'on a denial that time can lift: whole seconds, rounded up', schema: TEXT },
  },
  version: { ETag: { description: 'the version, for If-Match', schema: TEXT } },
};
/** The parts of addresses. */
const IN_PATH: Readonly<Record<string, object>> = {
  clientId: { example: CLIENT },
  policy: { example: POLICY },
  path: {
    example: 'cart',
    description: 'the path of the request that Envoy asks about, with its slashes; ignored',
  },
};

/** Returns the OpenAPI 3.1 document of the public API, made from the routes and from the schemas that validate requests. */
export function openApiDocument(groups: readonly Group[], version: string): object {
  const schemas: Record<string, unknown> = {};
  const problems = Object.entries(HTTP_ERRORS).map(([code, { status, title }]) => `- ${status} \`${code}\`: ${title}`);
  const paths = groups.flatMap((group) =>
    Object.entries(group.paths).map(([path, item]) => [path, pathItem(group.name, path, item)]),
  );
  const responses = { Problem: problemAnswer(`any problem:\n\n${problems.join('\n')}`, 'invalid_request') };
  return {
    openapi: '3.1.0',
    info: {
      title: 'Tokenring',
      version,
      description: 'A distributed rate limiter: may this client do this now?',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'this node' }],
    tags: groups.map(({ name, description }) => ({ name, description })),
    paths: withReferences(Object.fromEntries(paths), schemas),
    components: {
      responses: withReferences(responses, schemas),
      schemas,
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          description:
            'A token with the role that stands at the operation. Changes always need one; a node asks for it elsewhere if its token file requires the role.',
        },
      },
    },
  };
}

function pathItem(group: string, path: string, item: PathItem): object {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
    return { name, in: 'path', required: true, schema: TEXT, ...IN_PATH[name!] };
  });
  const operations = METHODS.flatMap((method) => {
    const operation = item[method];
    return operation === undefined ? [] : [[method, operationItem(group, operation)] as const];
  });
  return { ...(parameters.length > 0 && { parameters }), ...Object.fromEntries(operations) };
}

function operationItem(group: string, operation: Operation): object {
  const { id, summary, role, parameters, body, answers } = operation;
  const responses: Record<string, object> = { default: { $ref: '#/components/responses/Problem' } };
  for (const code of problemsOf(group, operation))
    responses[HTTP_ERRORS[code].status] = problemAnswer(HTTP_ERRORS[code].title, code);
  for (const [status, { description, headers, ...content }] of Object.entries(answers))
    responses[status] = { description, ...contentOf(content), ...(headers && { headers: HEADERS[headers] }) };
  return {
    tags: [group],
    operationId: id,
    summary,
    security: role === 'open' ? [] : role === 'admin' ? [{ token: [role] }] : [{}, { token: [role] }],
    ...(parameters && { parameters }),
    ...(body && { requestBody: { required: true, ...contentOf(body) } }),
    responses,
  };
}

function problemsOf(group: string, { role, body, problems = [] }: Operation): readonly HttpErrorCode[] {
  const all = [...problems];
  if (group === 'Gateways') all.push('gateway_unauthorized');
  else if (role === 'open') all.push('headers_too_large');
  else all.push('unauthorized', 'forbidden');
  if (body !== undefined) all.push('invalid_request', 'too_large', 'unsupported_media_type');
  return all;
}

function contentOf({ type = 'application/json', schema, example, examples }: Content): object {
  if (example === undefined && examples === undefined) return {};
  const shown = examples === undefined ? { example } : { examples: named(examples) };
  return { content: { [type]: { schema: schema ?? TEXT, ...shown } } };
}

/** Names are those of people; keys of the document take no spaces. */
function named(examples: Examples): object {
  return Object.fromEntries(
    Object.entries(examples).map(([name, value]) => [name.replaceAll(' ', '-'), { summary: name, value }]),
  );
}

/** @param code the problem of the example */
function problemAnswer(description: string, code: HttpErrorCode): object {
  const content = { type: 'application/problem+json', schema: ProblemSchema, example: problemExample(code) };
  return { description, ...contentOf(content) };
}

/** Copies a value. A schema that TypeBox names by its `$id` goes to `schemas`, and a reference takes its place. */
function withReferences(value: unknown, schemas: Record<string, unknown>): unknown {
  if (Array.isArray(value)) return value.map((item) => withReferences(item, schemas));
  if (typeof value !== 'object' || value === null) return value;
  const { $id: name, ...rest } = value as Record<string, unknown>;
  const copy = (): unknown =>
    Object.fromEntries(Object.entries(rest).map(([key, member]) => [key, withReferences(member, schemas)]));
  if (typeof name !== 'string') return copy();
  schemas[name] ??= copy();
  return { $ref: `#/components/schemas/${name}` };
}
