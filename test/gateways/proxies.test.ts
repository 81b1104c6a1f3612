import { createServer, type AddressInfo, type Socket } from 'node:net';
import { expect } from 'chai';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { describeWith } from '../support/programs.js';
import { documented } from './documented.js';
import {
  sendFrom,
  startDocumentedCaddy,
  startDocumentedHaproxy,
  startDocumentedKong,
  startDocumentedNginx,
  startLimiter,
  startService,
  type Change,
  type Gateway,
  type Service,
  type StartGateway,
} from './stage.js';

interface Proxy {
  readonly start: StartGateway;
  /** Makes it let requests pass while no node answers. */
  readonly open: readonly Change[];
  readonly policy: (name: string) => Change;
  /** Its answers to requests that nobody decided. */
  readonly closed: readonly number[];
  /** Its answer to requests under a policy that no node knows, also when it is open. */
  readonly misconfigured: number;
  readonly showsBody: boolean;
}

const [, nginxInCheck, nginxInServer] = documented('nginx') as [string, string, string];
const [, caddyInCheck, caddyBehind, caddyErrors] = documented('caddyfile') as [string, string, string, string];

const nginx: Proxy = {
  start: startDocumentedNginx,
  open: [
    ['internal;', `internal;\n${nginxInCheck}`],
    ['location @limited {', `${nginxInServer}\nlocation @limited {`],
  ],
  policy: (name) => ['X-Tokenring-Policy api;', `X-Tokenring-Policy ${name};`],
  closed: [500],
  misconfigured: 500,
  showsBody: false,
};
const haproxy: Proxy = {
  start: startDocumentedHaproxy,
  open: [['lua.tokenring api closed', 'lua.tokenring api open']],
  policy: (name) => ['lua.tokenring api', `lua.tokenring ${name}`],
  closed: [503],
  misconfigured: 500,
  showsBody: true,
};
const caddy: Proxy = {
  start: startDocumentedCaddy,
  open: [
    ['\n}\n', `\n${caddyErrors.replace('127.0.0.1:3000', 'SERVICE')}}\n`],
    ['health_interval 1s', `health_interval 1s\n${caddyInCheck}`],
    ['header {', `${caddyBehind}\nheader {`],
  ],
  policy: (name) => ['X-Tokenring-Policy api', `X-Tokenring-Policy ${name}`],
  closed: [502, 503, 504],
  misconfigured: 400,
  showsBody: true,
};

const kong: Proxy = {
  start: startDocumentedKong,
  open: [['return kong.response.exit(503, "the rate limiter does not answer")', 'return']],
  policy: (name) => ['"api"', `"${name}"`],
  closed: [503],
  misconfigured: 500,
  showsBody: true,
};

/** A node that accepts connections and, instead of its answer, says this; nothing at all without. */
async function startSick(answer?: string): Promise<{ port: number; stop(): void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('data', () => answer !== undefined && socket.write(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

const OVERLOADED = 'HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n';

function testsOf({ start, open, policy, closed, misconfigured, showsBody }: Proxy): void {
  let node: RunningNode;
  let service: Service;
  before(async () => {
    node = await startLimiter({
      api: { limit: 3, window: '1d' },
      load: { limit: 1_500, window: '1d' },
    });
    service = await startService();
  });
  after(async () => {
    await service.stop();
    await node.stop();
  });

  async function withGateway(
    nodes: readonly [{ port: number }, { port: number }],
    changes: readonly Change[],
    use: (gateway: Gateway) => Promise<void>,
  ): Promise<void> {
    const withService = changes.map(
      ([from, to]) => [from, to.replace('SERVICE', `127.0.0.1:${service.port}`)] as const,
    );
    const gateway = await start(nodes, service, ...withService);
    try {
      await use(gateway);
    } finally {
      await gateway.daemon.remove();
    }
  }
  async function statusFrom(address: string, { port }: Gateway): Promise<number> {
    const answer = await sendFrom(address, port, 'GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
    return Number(answer.slice(9, 12));
  }

  it('lets pass what the policy allows, then answers 429, with headers that say what is left', async () => {
    await withGateway([node, node], [], async (gateway) => {
      for (const remaining of [2, 1, 0]) {
        const { status, headers, text } = await call(gateway, '/a?b=c', { method: 'POST', body: 'of the service' });
        expect({ status, text }).to.deep.equal({ status: 200, text: 'hello' });
        expect(headers['ratelimit-policy']).to.equal('"api";q=3;w=86400');
        expect(headers['ratelimit']).to.match(new RegExp(`^"api";r=${remaining};t=\\d+$`));
        expect(headers).not.to.have.property('retry-after');
      }
      const passed = service.requests.length;
      const { status, headers, json } = await call(gateway, '/');
      expect(status).to.equal(429);
      expect(headers).to.include({ 'retry-after': '28800', 'ratelimit-policy': '"api";q=3;w=86400' });
      expect(headers['ratelimit']).to.match(/^"api";r=0;t=\d+$/);
      if (showsBody) expect(json).to.include({ allowed: false, limit: 3, remaining: 0 });
      expect(service.requests).to.have.length(passed);
      expect(service.requests.at(-1)).to.include({ method: 'POST', url: '/a?b=c' });
    });
  });

  it('limits each address by itself', async () => {
    await withGateway([node, node], [], async (gateway) => {
      const answers: number[] = [];
      for (let i = 0; i < 4; i += 1) answers.push(await statusFrom('127.0.0.2', gateway));
      expect(answers).to.deep.equal([200, 200, 200, 429]);
      expect((await allow(node, { clientId: '127.0.0.2', policy: 'api', peek: true })).allowed).to.equal(false);
      expect(await statusFrom('127.0.0.3', gateway)).to.equal(200);
    });
  });

  it('admits exactly the limit of 3,000 requests, 50 at once, and answers all others 429', async function () {
    this.timeout(60_000);
    await withGateway([node, node], [policy('load')], async (gateway) => {
      const counts = new Map<number, number>();
      let left = 3_000;
      const before = service.requests.length;
      const caller = async (): Promise<void> => {
        while (left > 0) {
          left -= 1;
          const { status } = await call(gateway, '/');
          counts.set(status, (counts.get(status) ?? 0) + 1);
        }
      };
      await Promise.all(Array.from({ length: 50 }, caller));
      expect(Object.fromEntries(counts)).to.deep.equal({ 200: 1_500, 429: 1_500 });
      expect(service.requests.length - before).to.equal(1_500);
    });
  });

  it('asks the next node when one is gone', async () => {
    await withGateway([{ port: await freePort() }, node], [policy('load')], async (gateway) => {
      for (let i = 0; i < 4; i += 1) expect(await statusFrom('127.0.0.4', gateway)).to.equal(200);
    });
  });

  const unanswered: [what: string, isGone: boolean, answer?: string][] = [
    ['nodes that are gone', true],
    ['nodes that accept connections and answer nothing', false],
    ['nodes that answer 503', false, OVERLOADED],
  ];
  for (const [what, isGone, answer] of unanswered) {
    it(`lets nothing pass without a decision, or everything if it is told so: ${what}`, async () => {
      const sick = await startSick(answer);
      if (isGone) sick.stop();
      const before = service.requests.length;
      await withGateway([sick, sick], [], async (gateway) => {
        expect(closed).to.include((await call(gateway, '/')).status);
        expect(service.requests).to.have.length(before);
      });
      await withGateway([sick, sick], open, async (gateway) => {
        const { status, headers, text } = await call(gateway, '/', { method: 'POST', body: 'of the service' });
        expect({ status, text }).to.deep.equal({ status: 200, text: 'hello' });
        expect(headers).not.to.have.property('ratelimit');
        expect(service.requests).to.have.length(before + 1);
      });
      sick.stop();
    });
  }

  it('still denies, and still refuses a policy that no node knows, when it lets requests pass without nodes', async () => {
    await withGateway([node, node], open, async (gateway) => {
      const answers: number[] = [];
      for (let i = 0; i < 4; i += 1) answers.push(await statusFrom('127.0.0.5', gateway));
      expect(answers).to.deep.equal([200, 200, 200, 429]);
    });
    await withGateway([node, node], [...open, policy('no-such')], async (gateway) => {
      expect(await statusFrom('127.0.0.6', gateway)).to.equal(misconfigured);
    });
  });
}

describeWith('nginx, as docs/gateways.md configures it, like the other proxies', 'nginx', () => testsOf(nginx));
describeWith('HAProxy, as docs/gateways.md configures it', 'haproxy', () => testsOf(haproxy));
describeWith('Caddy, as docs/gateways.md configures it', 'caddy', () => testsOf(caddy));
describeWith('the Lua for Kong, as docs/gateways.md configures it, in nginx', 'nginx with Lua', () => testsOf(kong));
