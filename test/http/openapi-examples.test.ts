import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { call, liveNode, parse, type Answer } from '../support/http.js';

interface Content {
  readonly schema: object;
  readonly example?: unknown;
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>;
}

interface Parameter {
  readonly name: string;
  readonly in: 'path' | 'query' | 'header';
  readonly example?: string;
}

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: Readonly<Record<string, Content>> };
  readonly responses: Readonly<
    Record<string, { readonly $ref?: string; readonly content?: Readonly<Record<string, Content>> }>
  >;
}

interface Document {
  readonly paths: Readonly<
    Record<string, Readonly<Record<string, Operation>> & { readonly parameters?: readonly Parameter[] }>
  >;
}

/** A request of an example, and what the document says of its answer. */
interface Run {
  readonly title: string;
  readonly path: string;
  readonly method: string;
  readonly operation: Operation;
  readonly parameters: readonly Parameter[];
  readonly body: unknown;
  /** The name of the example, if it is one of several. */
  readonly name: string | undefined;
}

const TOKEN = 'the-admin-token';
/** The node of the examples. */
const OWNER = '10.0.0.1:9080';

function examplesOf({ example, examples }: Content): [name: string | undefined, value: unknown][] {
  if (examples === undefined) return [[undefined, example]];
  return Object.entries(examples).map(([name, { value }]) => [name, value]);
}

/** Writes come before reads, those of policies first, and deletions last. */
function rank({ path, method }: Run): number {
  if (path.startsWith('/v1/check')) return 2;
  if (method === 'put') return path === '/v1/policies/{policy}' ? 0 : 1;
  if (method === 'delete') return path === '/v1/policies/{policy}' ? 4 : 3;
  return 2;
}

function runsOf({ paths }: Document): Run[] {
  const runs = Object.entries(paths).flatMap(([path, { parameters: shared = [], ...operations }]) =>
    Object.entries(operations).flatMap(([method, operation]) => {
      const [content] = Object.values(operation.requestBody?.content ?? {});
      const parameters = [...shared, ...(operation.parameters ?? [])];
      const bodies = content === undefined ? [[undefined, undefined] as const] : examplesOf(content);
      return bodies.map(([name, body]) => {
        const title = `${operation.operationId}${name === undefined ? '' : `, ${name}`}`;
        return { title, path, method, operation, parameters, body, name };
      });
    }),
  );
  return runs.toSorted((a, b) => rank(a) - rank(b));
}

function send(node: RunningNode, { path, method, parameters, body }: Run): Promise<Answer> {
  const given = parameters.filter(({ example }) => example !== undefined);
  const of = (place: string): [string, string][] =>
    given.filter((one) => one.in === place).map(({ name, example }) => [name, example!]);
  const address = of('path').reduce(
    (text, [name, value]) => text.replace(`{${name}}`, encodeURIComponent(value)),
    path,
  );
  const headers = { ...Object.fromEntries(of('header')), authorization: `Bearer ${TOKEN}` };
  const sent =
    body === undefined
      ? { headers }
      : { headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify(body) };
  return call(node, `${address}?${new URLSearchParams(of('query')).toString()}`, {
    method: method.toUpperCase(),
    ...sent,
  });
}

/** The status and the body that the document promises to a run. */
function promised({ operation, name }: Run): {
  status: string;
  content: Content | undefined;
  type: string | undefined;
} {
  const [status] = Object.entries(operation.responses).find(([code, { content }]) => {
    if (!/^[24]/.test(code)) return false;
    return name === undefined || Object.values(content ?? {}).some(({ examples }) => examples?.[name] !== undefined);
  })!;
  const [[type, content] = []] = Object.entries(operation.responses[status]!.content ?? {});
  return { status, content, type };
}

/** Asserts that an answer has all that the example has. Numbers depend on time, and a checksum on the process. */
function expectLike(example: unknown, answer: unknown, where: string): void {
  if (typeof example === 'number') return void expect(answer, where).to.be.a('number');
  if (typeof example !== 'object' || example === null) {
    if (!where.endsWith('.ringChecksum')) expect(answer, where).to.equal(example);
    return;
  }
  expect(answer, where).to.be.an(Array.isArray(example) ? 'array' : 'object');
  if (Array.isArray(example)) expect(answer, where).to.have.length(example.length);
  for (const [key, value] of Object.entries(example))
    expectLike(value, (answer as Record<string, unknown>)[key], `${where}.${key}`);
}

describe('each example of /openapi.json', () => {
  let node: RunningNode;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  const compiled = new Map<string, ValidateFunction>();
  let document: Document;
  let runs: Run[];
  before(async () => {
    node = await liveNode('--admin-token', TOKEN, '--advertise', OWNER);
    document = (await call(node, '/openapi.json')).json as Document;
    ajv.addSchema(document, 'api');
    runs = runsOf(document);
  });

  /** Asserts that a value has the form of a schema of the document. */
  function expectForm(schema: object, value: unknown, where: string): void {
    const text = JSON.stringify(schema).replaceAll('"#/components/', '"api#/components/');
    const validate = compiled.get(text) ?? ajv.compile(parse(text) as object);
    compiled.set(text, validate);
    expect(validate(value), `${where}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(value)}`).to.equal(true);
  }

  it('is there for each body that is sent and for each that is answered', () => {
    for (const { path, operation } of runs) {
      const bodies = [operation.requestBody, ...Object.values(operation.responses)];
      for (const content of bodies.flatMap((body) => Object.values(body?.content ?? {})))
        for (const [name, value] of examplesOf(content))
          expect(value, `${operation.operationId} ${path} ${name ?? ''}`).not.to.equal(undefined);
    }
  });

  it('gets the answer that stands beside it, in the form that the schema says', async () => {
    for (const run of runs) {
      const { title, method } = run;
      const { status, content, type } = promised(run);
      const answer = await send(node, run);
      expect(String(answer.status), `${title}: ${answer.text}`).to.equal(status);
      if (content === undefined || method === 'head') {
        expect(answer.text, title).to.equal('');
        continue;
      }
      expect(answer.headers['content-type'], title).to.match(new RegExp(`^${type!}(;|$)`));
      const [, example] = examplesOf(content).find(([name]) => name === undefined || name === run.name)!;
      if (type!.startsWith('text/')) {
        expect(answer.text, title).to.include(example);
        continue;
      }
      expectForm(content.schema, answer.json, title);
      expectLike(example, answer.json, title);
    }
  });

  it('has the form of its schema', () => {
    for (const { title, operation } of runs) {
      const bodies = [operation.requestBody, ...Object.values(operation.responses)];
      for (const content of bodies.flatMap((body) => Object.values(body?.content ?? {})))
        for (const [, value] of examplesOf(content)) expectForm(content.schema, value, title);
    }
  });
});
