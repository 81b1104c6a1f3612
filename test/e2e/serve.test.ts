import { expect } from 'chai';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type Wire } from '../http/wire.js';
import { expectProblem } from '../support/http.js';
import { killAll, serve, tokenring } from './processes.js';

const QUESTION = '{"clientId":"alice","limit":5,"window":"1m"}';
const head = (bytes: number): string =>
  `POST /v1/allow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${bytes}\r\n\r\n`;
const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;

/** A request whose headers have arrived for sure, and whose body has not. */
async function startSlowRequest(port: number): Promise<Wire> {
  const wire = await connect(port);
  wire.send(head(QUESTION.length).replace('\r\n\r\n', '\r\nExpect: 100-continue\r\n\r\n'));
  await wire.answers(1);
  return wire;
}

describe('tokenring serve', function () {
  this.timeout(60_000);
  after(killAll);

  it('says that it is ready in a line of JSON, and then answers', async () => {
    const node = await serve();
    const line = await node.line('tokenring ready');
    expect(line).to.include({ level: 30, port: node.port });
    // The address at which others reach it, though its port was for the system to choose.
    expect(line['node']).to.match(/^127\.0\.0\.1:[1-9]\d+$/);
    const wire = await connect(node.port);
    wire.send(head(QUESTION.length), QUESTION);
    expect((await wire.answers(1))[0]?.json).to.include({ allowed: true, remaining: 4, owner: line['node'] });
    wire.destroy();
    node.child.kill('SIGINT');
    const { code, stdout, stderr } = await node.ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    for (const one of stdout.trim().split('\n')) expect(() => void JSON.parse(one), one).not.to.throw();
  });

  it('stops on SIGTERM without failing anyone', async () => {
    const node = await serve();
    // Kept alive, idle, silent, and in the middle of a request.
    const [kept, idle, silent] = await Promise.all([connect(node.port), connect(node.port), connect(node.port)]);
    for (const wire of [kept, idle]) wire.send(get('/readyz'));
    expect((await kept.answers(1))[0]).to.include({ status: 200 });
    await idle.answers(1);
    const slow = await startSlowRequest(node.port);

    const startMs = performance.now();
    node.child.kill('SIGTERM');
    await node.line('stopping');
    kept.send(get('/readyz'));
    const [, notReady] = await kept.closed();
    expectProblem(notReady!, 'draining');
    expect(notReady?.headers['connection']).to.equal('close');
    const late = await connect(node.port);
    late.send(head(QUESTION.length), QUESTION);
    const [answer] = await late.closed();
    expect(answer?.json).to.include({ allowed: true });
    expect(answer?.headers['connection']).to.equal('close');

    await Promise.all([idle.closed(), silent.closed()]);
    slow.send(QUESTION);
    const [, last] = await slow.closed();
    expect(last?.json).to.include({ allowed: true });
    expect(last?.headers['connection']).to.equal('close');
    const { code, stdout, stderr } = await node.ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    expect(stdout).to.include('"msg":"stopped"');
    // Neither the silent connection nor the late answer made it wait for the end of its grace.
    expect(performance.now() - startMs).to.be.below(8_000);
  });

  it('stops within 8 s, whoever does not answer: a peer, or the client of a request', async () => {
    // By the time it would be suspected, Docker had killed both long ago.
    const patient = ['--suspect-after-ms', '60000'];
    const frozen = await serve(...patient);
    const { node: peer } = await frozen.line('tokenring ready');
    const node = await serve('--peers', String(peer), ...patient);
    const slow = await startSlowRequest(node.port);
    frozen.child.kill('SIGSTOP');
    const asked = await connect(node.port);
    for (let i = 0; i < 20; i += 1) asked.send(head(QUESTION.length), QUESTION.replace('alice', `bob-${i % 10}`));
    const startMs = performance.now();
    node.child.kill('SIGTERM');
    const { code, stderr } = await node.ended;
    expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    expect(performance.now() - startMs).to.be.below(8_000);
    await Promise.all([slow.closed(), asked.closed()]);
    frozen.child.kill('SIGKILL');
    await frozen.ended;
  });

  it('keeps what it decides while it drains, where it has a store', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenring-'));
    const store = ['--store', `lmdb:${join(folder, 'store')}`, '--store-interval-ms', '60000'];
    let peerPort = '0';
    for (const remaining of [4, 3]) {
      // As the same member: another one would wait for it.
      const node = await serve(...store, '--peer-port', peerPort);
      peerPort = String((await node.line('tokenring ready'))['node']).split(':')[1]!;
      node.child.kill('SIGTERM');
      await node.line('stopping');
      const wire = await connect(node.port);
      wire.send(head(QUESTION.length), QUESTION);
      expect((await wire.closed())[0]?.json).to.include({ allowed: true, remaining, source: 'owner', degraded: false });
      expect(await node.ended).to.include({ code: 0 });
    }
    rmSync(folder, { recursive: true });
  });

  it('does not wait on a second signal', async () => {
    const node = await serve();
    const slow = await startSlowRequest(node.port);
    node.child.kill('SIGTERM');
    await node.line('stopping');
    node.child.kill('SIGTERM');
    expect(await node.ended).to.include({ code: 1 });
    slow.destroy();
  });

  it('tells no other node of itself where its public port is taken', async () => {
    const node = await serve();
    const { node: id } = await node.line('tokenring ready');
    const late = await tokenring(['serve', '--port', String(node.port), '--peer-port', '0', '--peers', String(id)])
      .ended;
    expect(late).to.include({ code: 2 });
    node.child.kill('SIGTERM');
    const { stdout } = await node.ended;
    expect(stdout.split('"msg":"tokenring ready"')[1]).not.to.match(/ring changed|"members"/);
  });

  it('ends with 2 and one line where its port is taken or its host is nowhere', async () => {
    const node = await serve();
    const [taken, nowhere] = await Promise.all([
      tokenring(['serve', '--port', String(node.port), '--peer-port', '0']).ended,
      tokenring(['serve', '--host', 'nowhere.invalid', '--port', '0', '--peer-port', '0']).ended,
    ]);
    expect(taken).to.include({ code: 2 });
    expect(taken.stderr).to.match(/^tokenring: [^\n]*EADDRINUSE[^\n]*\n$/);
    expect(nowhere).to.include({ code: 2 });
    expect(nowhere.stderr).to.match(/^tokenring: [^\n]*nowhere\.invalid[^\n]*\n$/);
    node.child.kill('SIGTERM');
    await node.ended;
  });

  it('ends with 2 and one line that names a wrong setting, and shows no secret', async () => {
    const wrong: [args: string[], env: Record<string, string>, line: RegExp][] = [
      [['--port', 'http'], {}, /^tokenring: --port: "http" is not valid, expected a whole number from 0 to 65535\n$/],
      [['--prot', '80'], {}, /^tokenring: [^\n]*--prot[^\n]*\n$/],
      [[], { TOKENRING_MAX_CLIENTS: '0' }, /^tokenring: TOKENRING_MAX_CLIENTS: "0" is not valid, expected [^\n]*\n$/],
      [[], { TOKENRING_MAX_CLINETS: '7' }, /^tokenring: TOKENRING_MAX_CLINETS: [^\n]*\n$/],
      [[], { TOKENRING_CONFIG: '/nowhere.json' }, /^tokenring: TOKENRING_CONFIG: [^\n]*\/nowhere\.json[^\n]*\n$/],
      [['--peer-host', '0.0.0.0'], {}, /^tokenring: TOKENRING_PEER_HOST: "0\.0\.0\.0" [^\n]*\n$/],
      [[], { TOKENRING_ADMIN_TOKEN: 'hunter 2' }, /^tokenring: TOKENRING_ADMIN_TOKEN: (?!.*hunter)[^\n]*\n$/],
    ];
    await Promise.all(
      wrong.map(async ([args, env, line]) => {
        const { code, stdout, stderr } = await tokenring(['serve', ...args], env).ended;
        expect({ code, stdout }).to.deep.equal({ code: 2, stdout: '' });
        expect(stderr).to.match(line);
      }),
    );
  });

  it('starts beside a Kubernetes Service of its own name, and takes for settings nothing that is said of it', async () => {
    const links = {
      TOKENRING_SERVICE_HOST: '10.0.0.1',
      TOKENRING_SERVICE_PORT: '8080',
      TOKENRING_SERVICE_PORT_HTTP: '8080',
      TOKENRING_PORT: 'tcp://10.0.0.1:8080',
      TOKENRING_PORT_8080_TCP: 'tcp://10.0.0.1:8080',
      TOKENRING_PORT_8080_TCP_PROTO: 'tcp',
      TOKENRING_PORT_8080_TCP_PORT: '8080',
      TOKENRING_PORT_8080_TCP_ADDR: '10.0.0.1',
    };
    const args = ['serve', '--port', '0', '--peer-port', '0'];
    const node = tokenring(args, links);
    const { names } = await node.line('ignored variables that Kubernetes sets for a Service named tokenring');
    expect(names).to.have.members(Object.keys(links));
    node.child.kill('SIGTERM');
    expect(await node.ended).to.include({ code: 0, stderr: '' });
    const wrong = [
      { TOKENRING_PORT: 'http://10.0.0.1:8080' },
      { TOKENRING_HOST: 'tcp://10.0.0.1:8080' },
      { TOKENRING_PORT_TCP: 'x' },
      { TOKENRING_SERVICE_HOSTS: 'x' },
      { TOKENRING_PEER_PORT: 'tcp://10.0.0.1:8080' },
    ];
    for (const { code } of await Promise.all(wrong.map((env) => tokenring(['serve'], env).ended)))
      expect(code).to.equal(2);
  });

  it('writes no secret to its log', async () => {
    const node = await serve('--admin-token', 'hunter2', '--peer-secret', 'hunter3', '--log-level', 'trace');
    const wire = await connect(node.port);
    wire.send(
      'DELETE /v1/clients/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer hunter2\r\nConnection: close\r\n\r\n',
    );
    expect((await wire.closed())[0]).to.include({ status: 204 });
    node.child.kill('SIGTERM');
    const { stdout, stderr } = await node.ended;
    expect(stdout + stderr).not.to.match(/hunter/);
  });
});
