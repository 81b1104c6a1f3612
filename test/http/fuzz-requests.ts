import type { Random } from '../sim/random.js';

/** No request asks for more of this client than a peek, save those that must be refused. */
export const CANARY = 'canary';

/** One request as bytes, whole by its own account: what comes after it on the connection is the next one. */
export interface FuzzRequest {
  readonly bytes: Buffer;
  /** Whether its answer has a body, and which. */
  readonly answer: 'json' | 'text' | 'none';
}

const ATOMS = [
  '0',
  '-0',
  '1',
  '1e400',
  '-1',
  '0.5',
  '1000000001',
  '"1"',
  'true',
  'null',
  '[]',
  '{}',
  'NaN',
  '""',
  '"\\ud800"',
  '\xff',
  '[[[[',
  '"1m"',
  '{"limit":1,"window":1}',
];
const NAMES = [
  'clientId',
  'scope',
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
  '__proto__',
  'constructor',
  'x',
  '\\u006cimit',
];
const WINDOWS = ['1', '50', '"10ms"', '"1s"', '"1m"', '86400000', '"366d"'];
const PATHS = [
  '/v1/allow',
  '/v1/allow',
  '/v1/allow',
  '/v1/allow',
  '/v1/allow/batch',
  '/v1/allow/batch',
  '/v1/allow?a=1',
  '/v1/allow/',
  '/nowhere',
  '/',
  '/v1',
  '/openapi.json',
  '/healthz',
  '/readyz',
];
const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'HEAD', 'OPTIONS', 'TRACE', 'PROPFIND'];
const TYPES = [
  'application/json',
  'application/json; charset=utf-8',
  'text/plain',
  'application/json; charset=latin1',
  '',
  'multipart/form-data; boundary=x',
  '\xff',
];
const HEADERS = [
  'Content-Encoding: gzip',
  'Authorization: Bearer x',
  'Authorization: Bearer fuzz-token',
  'Authorization: ',
  'X: \xe9\x80',
  'Accept: text/html',
  'Cookie: a=b',
  'If-Modified-Since: 0',
  'Range: bytes=0-1',
  'Expect: 100-tinue',
  'Upgrade: websocket',
  'X-HTTP-Method-Override: DELETE',
  'Forwarded: for=1',
];

export function fuzzRequest(random: Random): FuzzRequest {
  const kind = random.next();
  if (kind < 0.3) return post(random, '/v1/allow', allowText(random));
  if (kind < 0.6) return post(random, '/v1/allow', mutate(random, allowText(random)));
  if (kind < 0.65) return post(random, '/v1/allow', canaryText(random));
  if (kind < 0.75) return post(random, '/v1/allow/batch', mutate(random, batchText(random), 0.5));
  if (kind < 0.8)
    return post(random, random.pick(['/v1/allow', '/v1/allow/batch']), noise(random, random.between(0, 300)));
  if (kind < 0.82) return chunked(random);
  if (kind < 0.86) return client(random);
  return anything(random);
}

function allowText(random: Random): string {
  const members = [`"clientId":${JSON.stringify(someClient(random))}`];
  if (random.chance(0.8)) members.push(`"limit":${random.between(0, 20)}`, `"window":${random.pick(WINDOWS)}`);
  else
    members.push(
      `"limits":[${Array.from({ length: random.between(1, 3) }, (_, i) => `{"limit":${random.between(1, 9)},"window":${i + 1}}`).join()}]`,
    );
  if (random.chance(0.2)) members.push(`"algorithm":"${random.pick(['token-bucket', 'sliding-window'])}"`);
  if (random.chance(0.2)) members.push(`"cost":${random.between(1, 30)}`);
  if (random.chance(0.1)) members.push('"peek":true');
  if (random.chance(0.1)) members.push(`"requestId":"${random.between(1, 20)}"`);
  if (random.chance(0.2)) members.push(`"${random.pick(NAMES)}":${random.pick(ATOMS)}`);
  if (random.chance(0.1)) members.reverse();
  return `{${members.join(random.chance(0.1) ? ' ,\n' : ',')}}`;
}

/** A valid question about the canary, spoilt in one of the ways that must cost it nothing. */
function canaryText(random: Random): string {
  const good = `"clientId":"${CANARY}","limit":9,"window":"366d"`;
  return random.pick([
    `{${good},"peek":true}`,
    `{${good},"cost":0}`,
    `{${good},"cost":10}`,
    `{${good},"windowMs":1}`,
    `{${good},"limit":9}`,
    `{${good},"x":1}`,
    `{${good}`,
    `{${good}}}`,
    `{"clientId":"${CANARY}","limit":0,"window":1}`,
    `{"clientId":"${CANARY}","limits":[{"limit":9,"window":"366d"},{"limit":0,"window":1}]}`,
  ]);
}

function batchText(random: Random): string {
  return `{"requests":[${Array.from({ length: random.between(0, 6) }, () => (random.chance(0.8) ? allowText(random) : random.pick(ATOMS))).join()}]}`;
}

/** Cuts, doubles, swaps and overwrites stretches of a text. */
function mutate(random: Random, text: string, probability = 1): string {
  if (!random.chance(probability)) return text;
  let mutant = text;
  for (let i = random.between(1, 4); i > 0; i -= 1) {
    const from = random.between(0, mutant.length);
    const to = Math.min(mutant.length, from + random.between(0, 8));
    const stretch = mutant.slice(from, to);
    const other = random.pick([
      '',
      stretch + stretch,
      stretch.toUpperCase(),
      random.pick(ATOMS),
      `"${random.pick(NAMES)}":${random.pick(ATOMS)},`,
      String.fromCharCode(random.between(0, 255)),
      '[{'.repeat(random.between(0, 300)),
    ]);
    mutant = mutant.slice(0, from) + other + mutant.slice(to);
  }
  // Whatever became of it, it is not the canary's.
  return mutant.replaceAll(CANARY, 'magpie');
}

function post(random: Random, path: string, body: string): FuzzRequest {
  const type = random.chance(0.97) ? 'application/json' : random.pick(TYPES);
  return frame('POST', path, [`Content-Type: ${type}`], body);
}

function client(random: Random): FuzzRequest {
  const id = random.chance(0.5)
    ? encodeURIComponent(someClient(random))
    : noise(random, 12).replaceAll(/[^!-~]|[?#]/g, '%');
  const headers = [random.chance(0.3) ? 'Authorization: Bearer fuzz-token' : random.pick(HEADERS)];
  return frame(random.pick(['GET', 'DELETE', 'GET', 'PUT', 'HEAD']), `/v1/clients/${id}`, headers, '');
}

function anything(random: Random): FuzzRequest {
  const headers = Array.from({ length: random.between(0, 3) }, () => random.pick(HEADERS));
  const body = random.pick(['', '', allowText(random), noise(random, 40)]);
  return frame(random.pick(METHODS), random.pick(PATHS), [`Content-Type: ${random.pick(TYPES)}`, ...headers], body);
}

function chunked(random: Random): FuzzRequest {
  const body = mutate(random, allowText(random), 0.5);
  const at = random.between(1, body.length);
  const chunks = [body.slice(0, at), body.slice(at), ''].filter((chunk, i) => i === 2 || chunk !== '');
  const text = chunks.map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('');
  const head = `POST /v1/allow HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`;
  return { bytes: Buffer.from(head + text, 'latin1'), answer: 'json' };
}

function frame(method: string, path: string, headers: readonly string[], body: string): FuzzRequest {
  const lines = [`${method} ${path} HTTP/1.1`, 'Host: x', ...headers, `Content-Length: ${body.length}`];
  const isText = ['/healthz', '/readyz'].includes(path) && method === 'GET';
  return {
    bytes: Buffer.from(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1'),
    answer: method === 'HEAD' ? 'none' : isText ? 'text' : 'json',
  };
}

function someClient(random: Random): string {
  return random.chance(0.1)
    ? random.pick(['__proto__', 'constructor', '\u00e9', '\0', 'a:b"c\\'])
    : `fuzz:${random.between(1, 200)}`;
}

function noise(random: Random, length: number): string {
  return String.fromCharCode(...Array.from({ length }, () => random.between(0, 255)));
}
