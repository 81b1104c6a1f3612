import { Value } from '@sinclair/typebox/value';
import { expect } from 'chai';
import { after } from 'mocha';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent } from 'undici';
import type { Decision } from '../../src/limits/decide/decision.js';
import { HTTP_ERRORS, type HttpErrorCode } from '../../src/lib/error.js';
import { DecisionSchema, ProblemSchema } from '../../src/server/validate/schema.js';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';

/** The id of the nodes that tests start in this process. */
export const OWNER = '192.0.2.1:9080';

/** Flags of a node that meets no other and writes nothing: what the example of policies says, and what is kept beside it, is no part of most tests. Raw requests call it `x`. */
export const ALONE =
  '--policies none --allowed-hosts x --port 0 --peer-port 0 --log-level silent --audit-log /dev/null'.split(' ');

const nodes = new Map<string, Promise<RunningNode>>();
let agent = new Agent({ connections: 16 });

/** A live node with these flags, on a port of its own; whoever asks with the same flags gets the same node. */
export async function liveNode(...flags: string[]): Promise<RunningNode> {
  const key = flags.join(' ');
  const node = nodes.get(key) ?? startNode(readSettings([...ALONE, '--advertise', OWNER, ...flags], {}));
  nodes.set(key, node);
  return node;
}

// A parallel run does this after each file, and the next file may be in the same process.
after('stop the live nodes', async () => {
  const ended = agent;
  agent = new Agent({ connections: 16 });
  const stopping = [...nodes.values()];
  nodes.clear();
  await ended.destroy();
  await Promise.all(stopping.map(async (node) => (await node).stop()));
});

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  /** Of the text, where the content type says so. */
  readonly json: unknown;
}

export interface Sent {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string | Buffer;
}

export async function call(node: { readonly port: number }, path: string, sent: Sent = {}): Promise<Answer> {
  const { method = 'GET', headers = {}, body = null } = sent;
  const origin = `http://127.0.0.1:${node.port}`;
  const { statusCode, headers: answered, body: stream } = await agent.request({ origin, path, method, headers, body });
  const text = isEventStream(answered) ? await firstSample(stream) : await stream.text();
  return { status: statusCode, headers: answered, text, json: isJson(answered) && text ? parse(text) : undefined };
}

function isEventStream(headers: IncomingHttpHeaders): boolean {
  return headers['content-type'] === 'text/event-stream';
}

/** The text of a stream that does not end, up to its first sample. */
async function firstSample(stream: AsyncIterable<Buffer>): Promise<string> {
  let text = '';
  for await (const chunk of stream) {
    text += chunk.toString();
    if (/event: sample\n.*\n\n/.test(text)) break;
  }
  return text;
}

function isJson(headers: IncomingHttpHeaders): boolean {
  return /^application\/(problem\+)?json/.test(headers['content-type'] ?? '');
}

export function parse(text: string): unknown {
  return JSON.parse(text) as unknown;
}

/** POSTs a value, or a text as it is, as JSON. */
export function post(node: { readonly port: number }, path: string, value: unknown): Promise<Answer> {
  const body = typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value);
  return call(node, path, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
}

/** The decision on a request, after a look at the form of the answer. */
export async function allow(node: { readonly port: number }, value: unknown): Promise<Decision> {
  const answer = await post(node, '/v1/allow', value);
  expect([200, 429], answer.text).to.include(answer.status);
  return decisionOf(answer);
}

export function decisionOf(answer: Answer): Decision {
  expect(answer.headers['content-type']).to.equal('application/json');
  expectShape(DecisionSchema, answer.json);
  return answer.json as Decision;
}

export function expectShape(schema: Parameters<typeof Value.Check>[0], value: unknown): void {
  if (!Value.Check(schema, value)) {
    const errors = [...Value.Errors(schema, value)].map(({ path, message }) => `${path}: ${message}`);
    expect.fail(`${JSON.stringify(value)} has not the documented form: ${errors.join('; ')}`);
  }
}

export interface ProblemBody {
  readonly code: HttpErrorCode;
  readonly status: number;
  readonly detail?: string;
  readonly field?: string;
  readonly expected?: string;
}

/** Asserts that the answer is this problem, about this field, in the documented form. */
export function expectProblem(answer: Answer, code: HttpErrorCode, field?: string): ProblemBody {
  expect(answer.headers['content-type'], answer.text).to.equal('application/problem+json');
  const problem = answer.json as ProblemBody;
  expect(problem.code, answer.text).to.equal(code);
  expect(answer.status).to.equal(HTTP_ERRORS[code].status);
  expect(problem.status).to.equal(answer.status);
  expectShape(ProblemSchema, problem);
  if (field !== undefined) expect(problem.field, answer.text).to.equal(field);
  return problem;
}

let clients = 0;

/** A client id that no other test uses. */
export function newClient(): string {
  clients += 1;
  return `client:${clients}`;
}
