import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { HTTP_ERRORS } from '../../src/lib/error.js';
import { digestOf } from '../../src/server/edge/access.js';
import type { RunningNode } from '../../src/app/main.js';
import { VERSION } from '../../src/lib/version.js';
import { call, liveNode } from '../support/http.js';

interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly parameters?: readonly { name: string; in: string }[];
  readonly requestBody?: { content: Record<string, { schema: object }> };
  readonly responses: Record<string, { description?: string; $ref?: string; content?: object }>;
  readonly security: readonly { readonly token?: readonly string[] }[];
}

interface Document {
  readonly openapi: string;
  readonly info: { title: string; version: string };
  readonly paths: Record<string, Record<string, Operation> & { parameters?: Operation['parameters'] }>;
  readonly components: {
    schemas: Record<string, { properties?: object; required?: string[] }>;
    responses: Record<string, { description: string }>;
  };
}

const METHODS = ['get', 'put', 'post', 'delete', 'patch', 'head', 'options', 'trace'];

function needsToken({ security }: Operation): boolean {
  return security.length > 0 && security.every(({ token }) => token !== undefined);
}

/** Every value of a key, anywhere in a document. */
function valuesOf(key: string, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) => [
    ...(name === key ? [member as unknown] : []),
    ...valuesOf(key, member),
  ]);
}

describe('GET /openapi.json', () => {
  let node: RunningNode;
  let document: Document;
  let operations: { path: string; method: string; operation: Operation }[];
  before(async () => {
    node = await liveNode();
    const answer = await call(node, '/openapi.json');
    expect(answer.status).to.equal(200);
    expect(answer.headers['content-type']).to.match(/^application\/json/);
    document = answer.json as Document;
    operations = Object.entries(document.paths).flatMap(([path, item]) =>
      METHODS.filter((method) => method in item).map((method) => ({ path, method, operation: item[method]! })),
    );
  });

  it('is OpenAPI 3.1 of this version', () => {
    expect(document.openapi).to.match(/^3\.1\.\d$/);
    expect(document.info).to.include({ title: 'Tokenring', version: VERSION });
  });

  it('names and sums up each operation, and says what it answers', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).to.equal(ids.length);
    for (const { path, method, operation } of operations) {
      const where = `${method} ${path}`;
      expect(operation.summary, where).to.be.a('string').that.is.not.empty;
      expect(Object.keys(operation.responses), where).to.include.members(['default']);
      expect(
        Object.keys(operation.responses).some((status) => status.startsWith('2')),
        where,
      ).to.equal(true);
      for (const [status, response] of Object.entries(operation.responses)) {
        expect(status, where).to.match(/^([1-5]\d\d|default)$/);
        expect(response.description ?? response.$ref, `${where} ${status}`).to.be.a('string').that.is.not.empty;
      }
    }
  });

  it('declares the parameters of each address, and no others', () => {
    for (const { path, operation } of operations) {
      const declared = [...(operation.parameters ?? []), ...(document.paths[path]?.parameters ?? [])];
      const inPath = declared.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
      expect(inPath, path).to.deep.equal([...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]));
    }
  });

  it('refers only to what it holds, and holds nothing that it does not refer to', () => {
    const refs = new Set(valuesOf('$ref', document) as string[]);
    for (const ref of refs) {
      const found = ref
        .slice(2)
        .split('/')
        .reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], document);
      expect(found, ref).to.be.an('object');
      expect(ref).to.match(/^#\//);
    }
    const held = Object.keys(document.components.schemas).map((name) => `#/components/schemas/${name}`);
    expect([...refs]).to.include.members(held);
    expect(valuesOf('$id', document)).to.deep.equal([]);
  });

  it('lists all addresses of the API: none is registered beside the table', () => {
    const source = readFileSync(new URL('../../src/server/http/api/api.ts', import.meta.url), 'utf8');
    const registered = source.match(/\bapp\.(?:all|get|put|post|delete|use|route)\([^)]*\)/g);
    expect(registered).to.have.members(['app.use(redirectToDashboard)', 'app.all(address, all)', 'app.route(address)']);
    expect(Object.keys(document.paths)).to.have.length.above(20);
  });

  it('lists the methods that each address takes, and no others', async () => {
    for (const path of Object.keys(document.paths)) {
      const answer = await call(node, path.replaceAll(/\{\w+\}/g, 'x'), { method: 'TRACE' });
      const listed = operations.filter((one) => one.path === path).map(({ method }) => method);
      if (listed.includes('trace')) {
        // Those take any.
        expect(listed, path).to.have.members(METHODS);
        expect(answer.status, path).not.to.equal(405);
        continue;
      }
      expect(answer.status, path).to.equal(405);
      const allowed = (answer.headers['allow'] as string)
        .toLowerCase()
        .split(', ')
        .filter((method) => method !== 'head');
      expect(listed, path).to.have.members(allowed);
    }
  });

  it('answers each address that it lists', async () => {
    for (const { path, method, operation } of operations) {
      const query = (operation.parameters ?? [])
        .filter((parameter) => parameter.in === 'query')
        .map(({ name }) => `${name}=x`);
      const answer = await call(node, `${path.replaceAll(/\{\w+\}/g, 'x')}?${query.join('&')}`, {
        method: method.toUpperCase(),
      });
      expect(Object.keys(operation.responses), `${method} ${path}`).to.include(String(answer.status));
    }
  });

  it('has problems whose codes and statuses callers may rely on', () => {
    const statuses = Object.entries(HTTP_ERRORS).map(([code, { status }]) => [code, status]);
    expect(Object.fromEntries(statuses)).to.deep.equal({
      invalid_json: 400,
      invalid_request: 400,
      unknown_policy: 400,
      unauthorized: 401,
      forbidden: 403,
      foreign_host: 403,
      foreign_origin: 403,
      not_found: 404,
      unknown_reservation: 404,
      method_not_allowed: 405,
      timeout: 408,
      precondition_failed: 412,
      policy_in_use: 409,
      too_many_policies: 409,
      too_large: 413,
      unsupported_media_type: 415,
      headers_too_large: 431,
      internal: 500,
      gateway_unauthorized: 500,
      overloaded: 503,
      unavailable: 503,
      draining: 503,
    });
  });

  it('lists every problem, its code and its status', () => {
    const problem = document.components.responses['Problem'];
    for (const [code, { status, title }] of Object.entries(HTTP_ERRORS)) {
      expect(problem?.description).to.include(`${status} \`${code}\`: ${title}`);
    }
    expect(valuesOf('enum', document.components.schemas['Problem'])).to.deep.equal([Object.keys(HTTP_ERRORS)]);
  });

  it('has the fields of a request and of a decision that the contract has', () => {
    const { AllowRequest, Decision } = document.components.schemas;
    const asked = [
      'clientId',
      'limit',
      'window',
      'windowMs',
      'burst',
      'algorithm',
      'limits',
      'policy',
      'cost',
      'peek',
      'requestId',
    ];
    const answered = ['allowed', 'limit', 'remaining', 'retryAfterMs', 'resetMs', 'owner', 'source', 'degraded'];
    expect(Object.keys(AllowRequest?.properties ?? {})).to.include.members(asked);
    expect(Object.keys(Decision?.properties ?? {})).to.have.members([...answered, 'limits', 'reservation', 'shadow']);
    expect(AllowRequest?.required).to.deep.equal(['clientId']);
    expect(Decision?.required).to.have.members(answered);
  });

  it('asks for the admin token where the node does', async () => {
    for (const { path, method, operation } of operations) {
      const answer = await call(node, path.replaceAll(/\{\w+\}/g, 'x'), { method: method.toUpperCase() });
      expect(needsToken(operation), `${method} ${path}`).to.equal(answer.status === 403);
    }
  });

  it('names the role that each operation needs where the node requires all roles', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-openapi-'));
    const roles = ['read', 'decide', 'admin'];
    const tokens = roles.map((role) => ({
      name: role,
      roles: [role],
      sha256: digestOf(`a-token-to-${role}`).toString('hex'),
    }));
    const path = join(folder, 'tokens.json');
    writeFileSync(path, JSON.stringify({ require: ['read', 'decide'], tokens }));
    const strict = await liveNode('--tokens', path);
    rmSync(folder, { recursive: true });
    for (const { path, method, operation } of operations) {
      const where = `${method} ${path}`;
      const named = operation.security.flatMap((one) => one.token ?? []);
      for (const role of roles) {
        const headers = { authorization: `Bearer a-token-to-${role}` };
        const address = path.replaceAll(/\{\w+\}/g, 'x');
        const { json } = await call(strict, address, { method: method.toUpperCase(), headers });
        const { code } = Object(json) as { code?: string };
        const isRefused = code === 'forbidden' || code === 'gateway_unauthorized';
        // The answer to HEAD has no body to tell.
        if (method !== 'head')
          expect(isRefused, `${where} as ${role}`).to.equal(
            named.length > 0 && role !== 'admin' && !named.includes(role),
          );
      }
    }
  });
});
