import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { expect } from 'chai';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings, SettingsError } from '../../src/app/settings/settings.js';
import { certificateFiles, createAuthority, type Authority, type Identity } from '../peer/certificates.js';
import { allow, newClient } from '../support/http.js';
import { freePorts } from '../support/ports.js';
import { need } from '../support/programs.js';

const HERE = 'IP:127.0.0.1,DNS:localhost';
const TOKEN = 'admin-token';

function tlsOf(socket: Socket): TLSSocket {
  if (socket instanceof TLSSocket) return socket;
  throw new Error('not TLS');
}

interface Answer {
  readonly status: number;
  readonly fingerprint: string;
}

function ask(port: number, client: Identity | undefined, ca: string, agent?: Agent, method = 'GET'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', servername: 'localhost', port, ca, ...client, agent: agent ?? false };
    const path = method === 'GET' ? '/healthz' : '/v1/clients/x';
    request({ ...options, path, method, headers: { authorization: `Bearer ${TOKEN}` } }, (res) => {
      const { fingerprint256: fingerprint } = tlsOf(res.socket).getPeerCertificate();
      res.resume().on('end', () => resolve({ status: res.statusCode!, fingerprint }));
    })
      .on('error', reject)
      .end();
  });
}

/** A session that could be resumed, or whether one was; rejects where the node hangs up. */
function talk(
  port: number,
  client: Identity,
  ca: string[],
  session?: Buffer,
): Promise<{ session: Buffer; reused: boolean }> {
  return new Promise((resolve, reject) => {
    let latest: Buffer | undefined;
    const options = { host: '127.0.0.1', servername: 'localhost', port, ca, ...client, session };
    const socket = connectTls(options, () => socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    socket.on('session', (ticket: Buffer) => (latest = ticket)).on('error', reject);
    socket.on('data', () => {
      resolve({ session: latest!, reused: socket.isSessionReused() });
      socket.destroy();
    });
    socket.on('close', () => reject(new Error('hung up')));
  });
}

async function refused(port: number, client: Identity | undefined, ca: string): Promise<void> {
  const answer = await ask(port, client, ca).catch((error: unknown) => error);
  expect(answer).to.be.instanceOf(Error);
}

async function until(what: string, holds: () => Promise<boolean>, withinMs = 3_000): Promise<void> {
  const startMs = performance.now();
  while (!(await holds())) {
    expect(performance.now() - startMs, `ms until ${what}`).to.be.below(withinMs);
    await wait(30);
  }
}

describe(`a node with certificates`, function () {
  this.timeout(40_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-certificates-'));
  const started: RunningNode[] = [];
  let [ours, theirs] = [] as unknown as [Authority, Authority];

  before(function () {
    need(this, 'openssl');
    [ours, theirs] = [createAuthority('ours'), createAuthority('theirs')];
  });
  afterEach(async () => {
    await Promise.all(started.splice(0).map((node) => node.stop()));
  });
  after(() => rmSync(folder, { recursive: true }));

  async function start(...flags: string[]): Promise<RunningNode> {
    const fixed = ['--port', '0', '--log-level', 'silent', '--audit-log', join(folder, 'audit.log')];
    const node = await startNode(readSettings([...fixed, ...flags], {}));
    started.push(node);
    return node;
  }
  const audited = (): Record<string, unknown>[] =>
    readFileSync(join(folder, 'audit.log'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  it('answers only those who have one of ours, where it asks for them, and writes down whose', async () => {
    const files = certificateFiles(folder, 'tls');
    files.write(ours.issue(HERE), ours.ca);
    const { port } = await start(
      ...files.flags,
      '--tls-require-client-cert',
      'true',
      '--peer-port',
      '0',
      '--admin-token',
      TOKEN,
    );
    const client = ours.issue('DNS:client');
    expect((await ask(port, client, ours.ca)).status).to.equal(200);
    await refused(port, undefined, ours.ca);
    await refused(port, theirs.issue('DNS:client'), ours.ca);
    expect((await ask(port, client, ours.ca, undefined, 'DELETE')).status).to.equal(204);
    const who = { token: 'TOKENRING_ADMIN_TOKEN', address: '127.0.0.1', certificate: 'peer' };
    expect(audited().at(-1)).to.deep.include({ who, what: 'client forgotten' });
  });

  it('shows another certificate, and asks for those of another authority, once its files have changed', async () => {
    const files = certificateFiles(folder, 'tls');
    const [first, second] = [ours.issue(HERE), theirs.issue(HERE)];
    files.write(first, ours.ca);
    const { port } = await start(...files.flags, '--tls-require-client-cert', 'true', '--peer-port', '0');
    const [old, newer] = [ours.issue('DNS:client'), theirs.issue('DNS:client')];
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const shows = ({ cert }: Identity): string => new X509Certificate(cert).fingerprint256;
    expect((await ask(port, old, ours.ca, agent)).fingerprint).to.equal(shows(first));

    const both = [ours.ca, theirs.ca];
    const { session } = await talk(port, old, both);
    expect((await talk(port, old, both, session)).reused).to.equal(true);

    // In the middle of a change: a certificate whose key has not come yet.
    writeFileSync(files.cert, second.cert);
    await wait(900);
    expect((await ask(port, old, ours.ca)).fingerprint).to.equal(shows(first));

    files.write(second, theirs.ca);
    await until('the new certificate', () =>
      ask(port, newer, theirs.ca).then(
        ({ status }) => status === 200,
        () => false,
      ),
    );
    expect((await ask(port, newer, theirs.ca)).fingerprint).to.equal(shows(second));
    await refused(port, old, theirs.ca);
    // Nor does a session from before bring its certificate in.
    expect(await talk(port, old, both, session).catch((error: unknown) => error)).to.be.instanceOf(Error);
    // Nobody who was connected has noticed.
    expect((await ask(port, old, ours.ca, agent)).status).to.equal(200);
    agent.destroy();
    const line = audited().at(-1)!;
    expect(line).to.deep.include({ what: 'certificates read', target: 'tls', who: { file: files.cert } });
    expect(line).to.have.nested.property('before.fingerprint256', shows(first));
    expect(line).to.have.nested.property('after.fingerprint256', shows(second));
    expect(JSON.stringify(audited())).not.to.include('PRIVATE KEY');
  });

  it('moves to the certificates of another authority with its peers, one after the other, and stays one ring', async () => {
    const ports = await freePorts(3);
    const peers = ports.map((port) => `127.0.0.1:${port}`).join(',');
    const own = ports.map((_, i) => {
      const place = join(folder, `node-${i}-`);
      const files = certificateFiles('', 'peer-tls');
      const path = (kind: string): string => `${place}${kind}.pem`;
      return {
        write({ cert, key }: Identity, ca: string) {
          for (const [kind, text] of Object.entries({ cert, key, ca })) {
            writeFileSync(`${path(kind)}.new`, text);
            renameSync(`${path(kind)}.new`, path(kind));
          }
        },
        flags: files.flags.map((flag) => (flag.startsWith('--') ? flag : path(flag.replace(/^.*-(\w+)\.pem$/, '$1')))),
      };
    });
    const begin = (i: number): Promise<RunningNode> =>
      start(
        '--peer-port',
        String(ports[i]),
        '--peers',
        peers,
        ...own[i]!.flags,
        '--peer-tls-require-client-cert',
        'true',
      );
    own[0]!.write(ours.issue(HERE), ours.ca);
    own[1]!.write(ours.issue(HERE), ours.ca);
    const [a, b] = await Promise.all([begin(0), begin(1)]);
    const active = async (node: RunningNode): Promise<number> => {
      const cluster = (await (await fetch(`http://127.0.0.1:${node.port}/v1/cluster`)).json()) as {
        members: { state: string }[];
      };
      return cluster.members.filter(({ state }) => state === 'active').length;
    };
    await until('both are members', async () => (await active(a)) === 2 && (await active(b)) === 2, 8_000);
    const both = `${ours.ca}\n${theirs.ca}`;
    for (const one of own.slice(0, 2)) {
      one.write(ours.issue(HERE), both);
      await wait(800);
    }
    for (const one of own.slice(0, 2)) {
      one.write(theirs.issue(HERE), both);
      await wait(800);
    }
    for (const one of own.slice(0, 2)) one.write(theirs.issue(HERE), theirs.ca);
    await wait(800);
    expect([await active(a), await active(b)]).to.deep.equal([2, 2]);
    // New connections need a certificate of the new authority.
    own[2]!.write(theirs.issue(HERE), theirs.ca);
    const c = await begin(2);
    await until('the third is a member', async () => (await active(a)) === 3 && (await active(c)) === 3, 8_000);
    const decisions = await Promise.all(
      Array.from({ length: 60 }, () => allow(a, { clientId: newClient(), limit: 5, window: '1d' })),
    );
    expect(decisions.filter(({ degraded }) => degraded)).to.deep.equal([]);
    expect(new Set(decisions.map(({ owner }) => owner))).to.have.all.keys(peers.split(','));
  });

  it('does not start with a key that is not that of the certificate', async () => {
    const files = certificateFiles(folder, 'tls');
    files.write({ ...ours.issue(HERE), key: ours.issue(HERE).key }, ours.ca);
    const error = await start(...files.flags, '--peer-port', '0').catch((cause: unknown) => cause);
    expect(error).to.be.instanceOf(SettingsError);
    expect((error as Error).message).to.include('TOKENRING_TLS_CERT');
  });
});
