import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { documentedApisix, documentedEnvoy, documentedTraefik } from '../gateways/documented.js';
import {
  sendFrom,
  startDocumentedCaddy,
  startDocumentedHaproxy,
  startDocumentedKong,
  startDocumentedNginx,
  startLimiter,
  startService,
  type Service,
  type StartGateway,
} from '../gateways/stage.js';
import { startApisix, startEnvoy, startTraefik } from '../gateways/stand-ins.js';
import { allow, call } from '../support/http.js';
import { describeWith } from '../support/programs.js';

const POLICIES = { api: { limit: 1, window: '1d' }, ample: { limit: 1_000_000, window: '1s' } };
const ATTACKER = '127.0.0.66';
const VICTIM = '127.0.0.67';

const get = (headers = '', path = '/'): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\n${headers}Connection: close\r\n\r\n`;

/** What somebody sends who has used up their limit, to be taken for another, for a new one, or under another policy. */
const PRETENCES: [what: string, request: string][] = [
  ['nothing but a request', get()],
  ['a client of their own', get('X-Tokenring-Client: fresh\r\n')],
  ['the victim', get(`X-Tokenring-Client: ${VICTIM}\r\n`)],
  ['a client twice', get('X-Tokenring-Client: fresh\r\nX-Tokenring-Client: fresh\r\n')],
  ['a client in another case', get('x-TOKENRING-client: fresh\r\n')],
  ['a client with underscores', get('X_Tokenring_Client: fresh\r\nX_TOKENRING_CLIENT: fresh\r\n')],
  ['a list of clients', get('X-Tokenring-Client: fresh, fresher\r\n')],
  ['no client', get('X-Tokenring-Client:\r\n')],
  ['a header that is to be the client', get('X-Tokenring-Client-From: X-Api-Key\r\nX-Api-Key: fresh\r\n')],
  ['another policy', get('X-Tokenring-Policy: ample\r\n')],
  ['no policy', get('X-Tokenring-Policy:\r\n')],
  ['another cost', get('X-Tokenring-Cost: 0\r\n')],
  ['another scope', get('X-Tokenring-Scope: fresh\r\n')],
  ['another address', get(`X-Forwarded-For: ${VICTIM}\r\nX-Real-IP: ${VICTIM}\r\nForwarded: for=${VICTIM}\r\n`)],
  ['another method', get('X-HTTP-Method-Override: HEAD\r\nX-Original-URL: /healthz\r\n')],
  ['a line within a header', get('X: y\nX-Tokenring-Client: fresh\r\n')],
  ['a carriage return within a header', get('X: y\rX-Tokenring-Client: fresh\r\n')],
  ['a folded header', get('X: y\r\n X-Tokenring-Client: fresh\r\n')],
  ['a space before the colon', get('X-Tokenring-Client : fresh\r\n')],
  ['a NUL within a header', get('X-Tokenring-Client: fre\0sh\r\n')],
  ['a NUL within a name', get('X-Tokenring-\0Client: fresh\r\n')],
  ['lines within the path', get('', '/%0d%0aX-Tokenring-Client:%20fresh%0d%0a')],
  ['the address of the node', get('', 'http://tokenring/v1/check/nginx')],
  ['headers that hop: the client', get('Connection: X-Tokenring-Client\r\n')],
  [
    'headers that hop: all of them',
    'GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Tokenring-Client, X-Tokenring-Client-From, X-Tokenring-Policy, X-Forwarded-For\r\n\r\n',
  ],
  [
    'a trailer behind chunks',
    `POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTrailer: X-Tokenring-Client\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Tokenring-Client: fresh\r\n\r\n`,
  ],
  ['HTTP/1.0', 'GET / HTTP/1.0\r\nX-Tokenring-Client: fresh\r\n\r\n'],
  ['HTTP/0.9', 'GET /\r\n'],
  ['headers of 24 KiB', get(`X: ${'x'.repeat(8_000)}\r\n`.repeat(3))],
  ['headers of 100 KiB', get(`X: ${'x'.repeat(100_000)}\r\n`)],
  ['a client of 7 KiB', get(`X-Tokenring-Client: ${'x'.repeat(7_000)}\r\n`)],
  ['2,500 headers', get('a: b\r\n'.repeat(2_500))],
  [
    'a request within a request',
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${get('X-Tokenring-Client: fresh\r\n')}`,
  ],
  [
    'two lengths',
    `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n${get('X-Tokenring-Client: fresh\r\n')}`,
  ],
  ['several requests at once', get().replace('close', 'keep-alive').repeat(5) + get('X-Tokenring-Client: fresh\r\n')],
  ['a socket for more', get('Upgrade: websocket\r\n').replace('close', 'upgrade')],
  [
    'HTTP/2 without TLS',
    get('Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n').replace('close', 'Upgrade, HTTP2-Settings'),
  ],
  ['an expectation', get('Expect: 100-continue\r\n')],
  ['what is cached', get('If-None-Match: *\r\nRange: bytes=0-0\r\nCache-Control: only-if-cached\r\n')],
  ['a method that nobody knows', get().replace('GET', 'FRESH')],
];

function statusesOf(answer: string): number[] {
  return [...answer.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)].map((match) => Number(match[1]));
}

describe('attacks by callers of a gateway', function () {
  this.timeout(60_000);

  /** The attacker, who has nothing left, tries everything: nothing passes, nobody else pays for it. */
  async function tryAll(
    node: RunningNode,
    service: Service,
    gateway: { port: number },
    attacker: string,
    refusals: readonly number[],
  ): Promise<void> {
    const peek = { clientId: attacker, policy: 'api', peek: true };
    expect(statusesOf(await sendFrom(ATTACKER, gateway.port, get()))).to.deep.equal([200]);
    expect((await allow(node, peek)).allowed).to.equal(false);
    for (const [what, request] of PRETENCES) {
      const answer = await sendFrom(ATTACKER, gateway.port, request);
      for (const status of statusesOf(answer)) expect(refusals, `${what}: ${answer}`).to.include(status);
      expect(answer, what).not.to.match(/hello/);
    }
    expect(service.requests).to.have.length(1);
    for (const clientId of [VICTIM, 'fresh']) {
      for (const [policy, remaining] of [
        ['api', 1],
        ['ample', 1_000_000],
      ] as const)
        expect((await allow(node, { clientId, policy, peek: true })).remaining, clientId).to.equal(remaining);
    }
    expect((await call(node, '/metrics')).text)
      .not.to.include('fresh')
      .and.not.to.include(VICTIM);
  }

  /** Through a real gateway, as it is documented: none is taken for another, and each is denied as the one that it is. */
  async function tryThrough(
    start: StartGateway,
    refusals: readonly number[],
    denied: readonly string[],
  ): Promise<void> {
    const [node, service] = await Promise.all([startLimiter(POLICIES), startService()]);
    const gateway = await start([node, node], service);
    try {
      await tryAll(node, service, gateway, ATTACKER, refusals);
      // No header of the caller gets to the node, so a strange one is a denial, and no fault.
      const strange = ['a client twice', 'a header that is to be the client', 'another policy', 'another cost'];
      for (const what of [...strange, 'HTTP/1.0', 'another address', ...denied]) {
        const [, request] = PRETENCES.find(([name]) => name === what)!;
        expect(statusesOf(await sendFrom(ATTACKER, gateway.port, request)), what).to.deep.equal([429]);
      }
      expect(statusesOf(await sendFrom(VICTIM, gateway.port, get()))).to.deep.equal([200]);
    } finally {
      await gateway.daemon.remove();
      await service.stop();
      await node.stop();
    }
  }
  const TITLE = 'none is taken for another, under another policy, or let pass for its headers';

  describeWith('through nginx as it is documented', 'nginx', () => {
    it(TITLE, () => tryThrough(startDocumentedNginx, [400, 405, 414, 429], ['headers of 24 KiB', 'a client of 7 KiB']));
  });
  describeWith('through HAProxy as it is documented', 'haproxy', () => {
    it(TITLE, () => tryThrough(startDocumentedHaproxy, [400, 429], ['a client of 7 KiB']));

    it('a client with a line break in it begins no header of its own', async () => {
      const [node, service] = await Promise.all([startLimiter(POLICIES), startService()]);
      const fromPath = ['txn.tokenring_client) src', 'txn.tokenring_client) path,url_dec'] as const;
      const gateway = await startDocumentedHaproxy([node, node], service, fromPath);
      for (const [path, status] of [
        ['/x%0d%0aX-Tokenring-Cost:%201', 400],
        ['/x%0aX-Tokenring-Cost:%201', 400],
        ['/x%00', 400],
        ['/%ff', 500],
      ] as const)
        expect(statusesOf(await sendFrom(ATTACKER, gateway.port, get('', path))), path).to.deep.equal([status]);
      expect(service.requests).to.have.length(0);
      await gateway.daemon.remove();
      await service.stop();
      await node.stop();
    });
  });
  describeWith('through Caddy as it is documented', 'caddy', () => {
    it(TITLE, () => tryThrough(startDocumentedCaddy, [400, 429, 431], ['a client of 7 KiB']));
  });

  describeWith('through the Lua for Kong as it is documented, in nginx', 'nginx with Lua', () => {
    it(TITLE, () =>
      tryThrough(startDocumentedKong, [100, 400, 405, 414, 429], ['headers of 24 KiB', 'a client of 7 KiB']),
    );
  });

  it('through Traefik, Envoy, and APISIX as they are documented, by stand-ins: none, and what makes a gateway lose a header is refused', async () => {
    const { path, ...traefik } = documentedTraefik();
    const apisix = documentedApisix();
    const starts = [
      (node: RunningNode, service: Service) =>
        startTraefik({ ...traefik, address: { port: node.port, path } }, service),
      (node: RunningNode, service: Service) => startEnvoy({ ...documentedEnvoy(), port: node.port }, service),
      (node: RunningNode, service: Service) =>
        startApisix({ ...apisix, uri: apisix.uri.replace('8080', String(node.port)) }, service),
    ];
    for (const start of starts) {
      const [node, service] = await Promise.all([startLimiter(POLICIES), startService()]);
      const gateway = await start(node, service);
      try {
        await tryAll(node, service, gateway, ATTACKER, [100, 400, 429, 431]);
      } finally {
        await gateway.stop();
        await service.stop();
        await node.stop();
      }
    }
  });
});
