import { createHash } from 'node:crypto';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { startNode, type RunningNode } from '../../src/app/main.js';
import { readSettings } from '../../src/app/settings/settings.js';
import { eventually } from '../support/eventually.js';
import { ALONE, call, liveNode, newClient, OWNER, post } from '../support/http.js';
import { command, connectResp, type Reply, type RespWire } from './wire.js';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const errorOf = (reply: Reply): string => (reply as { error: string }).error;

describe('the commands of the Redis protocol', () => {
  let node: RunningNode;
  let wire: RespWire;
  before(async () => {
    node = await liveNode('--resp-port', '0');
  });
  beforeEach(async () => {
    wire = await connectResp(node.respPort!);
  });
  afterEach(() => void wire.socket.destroy());

  it('decide from the same buckets as POST /v1/allow', async () => {
    const clientId = newClient();
    const asked = ['TR.ALLOW', clientId, 'LIMIT', 3, 'WINDOW', '1d'] as const;
    expect(await wire.ask(...asked)).to.deep.equal([1, 3, 2, 0, 28_800_000, OWNER, 'owner', 0, null]);
    const { text } = await post(node, '/v1/allow', { clientId, limit: 3, window: '1d' });
    expect(JSON.parse(text)).to.include({ allowed: true, remaining: 1 });
    await wire.ask('CL.THROTTLE', clientId, 2, 3, 86_400);
    const denied = (await wire.ask(...asked)) as number[];
    expect(denied.slice(0, 3)).to.deep.equal([0, 3, 0]);
    expect(denied[3]).to.be.within(28_700_000, 28_800_000);
  });

  it('answer TR.ALLOW with names in RESP3, those of the HTTP API', async () => {
    const clientId = newClient();
    await wire.ask('HELLO', 3);
    const map = (await wire.ask('TR.ALLOW', clientId, 'LIMIT', 3, 'WINDOW', '1d')) as Map<Reply, Reply>;
    expect([...map]).to.deep.equal([
      ['allowed', true],
      ['limit', 3],
      ['remaining', 2],
      ['retryAfterMs', 0],
      ['resetMs', 28_800_000],
      ['owner', OWNER],
      ['source', 'owner'],
      ['degraded', false],
    ]);
    const never = (await wire.ask('TR.ALLOW', clientId, 'LIMIT', 0, 'WINDOW', '1d')) as Map<Reply, Reply>;
    expect([never.get('allowed'), never.get('retryAfterMs')]).to.deep.equal([false, null]);
  });

  it('take the options of TR.ALLOW in any order and case, and use each of them', async () => {
    const clientId = newClient();
    const full = ['WINDOW', 86_400_000, 'burst', 5, 'limit', 3, 'Algorithm', 'token-bucket', 'cost', 2] as const;
    expect(((await wire.ask('tr.allow', clientId, ...full)) as number[]).slice(0, 3)).to.deep.equal([1, 3, 3]);
    const peek = (await wire.ask('TR.ALLOW', clientId, ...full, 'PEEK')) as number[];
    expect(peek.slice(0, 3)).to.deep.equal([1, 3, 3]);
    const once = ['TR.ALLOW', clientId, ...full, 'ID', 'r1'] as const;
    const [first, again] = [await wire.ask(...once), await wire.ask(...once)];
    expect(again).to.deep.equal(first);
  });

  it('take from the bucket of a scope, and describe the buckets of all', async () => {
    const clientId = newClient();
    const asked = ['TR.ALLOW', clientId, 'LIMIT', 3, 'WINDOW', '1d'] as const;
    for (const scope of [[], ['SCOPE', '7'], ['scope', 'größe']])
      for (const remaining of [2, 1])
        expect(((await wire.ask(...asked, ...scope)) as number[]).slice(0, 3)).to.deep.equal([1, 3, remaining]);
    await wire.ask('HELLO', 3);
    const map = (await wire.ask('TR.DESCRIBE', clientId)) as Map<Reply, Reply>;
    const buckets = map.get('buckets') as Map<Reply, Reply>[];
    expect(buckets.map((bucket) => bucket.get('scope'))).to.have.members([undefined, '7', 'größe']);
  });

  it('reserve and settle, once', async () => {
    const clientId = newClient();
    const reserved = (await wire.ask(
      'TR.ALLOW',
      clientId,
      'LIMIT',
      10,
      'WINDOW',
      '1d',
      'COST',
      6,
      'RESERVE',
    )) as Reply[];
    const name = reserved[8] as string;
    await wire.ask('HELLO', 3);
    for (const cost of [2, 9]) {
      const settled = (await wire.ask('TR.SETTLE', name, cost)) as Map<Reply, Reply>;
      expect([settled.get('cost'), settled.get('reserved'), settled.get('remaining')]).to.deep.equal([2, 6, 8]);
    }
    const unknown = name.replace(/.$/, (last) => (last === 'x' ? 'y' : 'x'));
    expect(errorOf(await wire.ask('TR.SETTLE', unknown, 1))).to.match(/^UNKNOWN_RESERVATION /);
    expect(errorOf(await wire.ask('TR.SETTLE', name, 'much'))).to.match(/^INVALID_REQUEST cost: "much" is not valid/);
  });

  it('describe a client', async () => {
    const clientId = newClient();
    await wire.ask('TR.ALLOW', clientId, 'LIMIT', 10, 'WINDOW', '1d');
    await wire.ask('HELLO', 3);
    const map = (await wire.ask('TR.DESCRIBE', clientId)) as Map<Reply, Reply>;
    expect([map.get('clientId'), map.get('owner')]).to.deep.equal([clientId, OWNER]);
    const [bucket] = map.get('buckets') as Map<Reply, Reply>[];
    expect([...bucket!].slice(0, 4)).to.deep.equal([
      ['algorithm', 'token-bucket'],
      ['windowMs', 86_400_000],
      ['limit', 10],
      ['remaining', 9],
    ]);
  });

  it('refuse what POST /v1/allow refuses, by the same field and with the same text', async () => {
    const wrong: [args: (string | number)[], body: object][] = [
      [['LIMIT', 'ten', 'WINDOW', '1m'], { limit: 'ten', window: '1m' }],
      [['LIMIT', -1, 'WINDOW', '1m'], { limit: -1, window: '1m' }],
      [['LIMIT', 1.5, 'WINDOW', '1m'], { limit: 1.5, window: '1m' }],
      [['LIMIT', 1, 'WINDOW', 'banana'], { limit: 1, window: 'banana' }],
      [['LIMIT', 1], { limit: 1 }],
      [[], {}],
      [['POLICY', 'nobody'], { policy: 'nobody' }],
      [['POLICY', 'nobody', 'LIMIT', 1], { policy: 'nobody', limit: 1 }],
      [['LIMIT', 1, 'WINDOW', '1m', 'COST', 0], { limit: 1, window: '1m', cost: 0 }],
      [['LIMIT', 1, 'WINDOW', '1m', 'RESERVE', 'PEEK'], { limit: 1, window: '1m', reserve: true, peek: true }],
      [['LIMIT', 1, 'WINDOW', '1m', 'ID', 'x'.repeat(129)], { limit: 1, window: '1m', requestId: 'x'.repeat(129) }],
      [['LIMIT', 1, 'WINDOW', '1m', 'SCOPE', 'x'.repeat(129)], { limit: 1, window: '1m', scope: 'x'.repeat(129) }],
      [['LIMIT', 1, 'WINDOW', '1m', 'ALGORITHM', 'none'], { limit: 1, window: '1m', algorithm: 'none' }],
    ];
    for (const [args, body] of wrong) {
      const { text } = await post(node, '/v1/allow', { clientId: 'x', ...body });
      const problem = JSON.parse(text) as { code: string; detail: string };
      expect(await wire.ask('TR.ALLOW', 'x', ...args)).to.deep.equal({
        error: `${problem.code.toUpperCase()} ${problem.detail}`.slice(0, 512).replace(/[^ -~]/g, '?'),
      });
    }
  });

  const mistakes: [args: (string | number)[], error: RegExp][] = [
    [['GET', 'x'], /^ERR unknown command 'GET'/],
    [['TR.ALLOW'], /^ERR wrong number of arguments for 'tr.allow' command$/],
    [['tr.settle', 'x'], /^ERR wrong number of arguments for 'tr.settle' command$/],
    [['TR.ALLOW', 'x', 'LIMT', 1], /^INVALID_REQUEST LIMT: there is no such option; did you mean `LIMIT`\?$/],
    [['TR.ALLOW', 'x', 'LIMIT'], /^INVALID_REQUEST LIMIT has no value/],
    [['TR.ALLOW', 'x', 'LIMIT', 1, 'limit', 2], /^INVALID_REQUEST LIMIT is there more than once/],
    [['TR.ALLOW', 'x', '__proto__', 1], /^INVALID_REQUEST __proto__: there is no such option/],
    [['HELLO', 4], /^NOPROTO /],
    [['HELLO', 3, 'NONSENSE'], /^ERR Syntax error in HELLO option 'NONSENSE'$/],
    [['CLIENT', 'KILL'], /^ERR unknown subcommand/],
    [['CLIENT', 'SETNAME', 'a b'], /^ERR Client names cannot contain/],
    [['AUTH', 'guess'], /^WRONGPASS /],
    [['x\r\n+OK'], /^ERR unknown command 'x\?\?\+OK'/],
  ];
  for (const [args, error] of mistakes) {
    it(`refuse ${JSON.stringify(args.join(' '))} with ${String(error)}, and go on`, async () => {
      expect(errorOf(await wire.ask(...args))).to.match(error);
      expect(await wire.ask('PING')).to.deep.equal({ status: 'PONG' });
    });
  }

  it('answer what clients send when they connect', async () => {
    const hello = (await wire.ask('HELLO', 3, 'SETNAME', 'web')) as Map<Reply, Reply>;
    expect([hello.get('server'), hello.get('proto')]).to.deep.equal(['tokenring', 3]);
    expect(await wire.ask('CLIENT', 'GETNAME')).to.equal('web');
    expect(await wire.ask('CLIENT', 'SETINFO', 'LIB-NAME', 'x')).to.deep.equal({ status: 'OK' });
    expect(await wire.ask('CLIENT', 'ID')).to.equal(hello.get('id'));
    expect(await wire.ask('INFO')).to.include('loading:0');
    const all = (await wire.ask('COMMAND')) as Reply[][];
    expect(await wire.ask('COMMAND', 'COUNT')).to.equal(all.length);
    expect(all.find(([name]) => name === 'cl.throttle')).to.deep.include.members(['cl.throttle', -5, 1]);
    expect(await wire.ask('COMMAND', 'DOCS', 'ping', 'get')).to.have.all.keys('ping');
    expect(await wire.ask('COMMAND', 'INFO', 'get')).to.deep.equal([null]);
    expect(await wire.ask('ECHO', 'ünïcode')).to.equal('ünïcode');
    expect(await wire.ask('RESET')).to.deep.equal({ status: 'RESET' });
    expect(await wire.ask('CLIENT', 'GETNAME'), 'in RESP2 again').to.equal(null);
    wire.send(command('QUIT'), command('PING'));
    expect(await wire.rest()).to.deep.equal([{ status: 'OK' }]);
  });

  describe('between MULTI and EXEC', () => {
    const QUEUED = { status: 'QUEUED' };
    const OK = { status: 'OK' };
    const ABORTED = 'EXECABORT Transaction discarded because of previous errors.';
    const throttle = (key: string): Buffer => command('CL.THROTTLE', key, 2, 1, 3_600);

    it('are queued, and run in order by EXEC, which answers all of them', async () => {
      const key = newClient();
      const errors = command('CL.THROTTLE', key, 'many', 1, 3_600);
      const all = [command('MULTI'), throttle(key), command('ECHO', 'x'), throttle(key), errors, command('EXEC')];
      // First in one chunk with what follows, then byte by byte.
      wire.send(...all, command('PING'));
      const replies: Reply[] = [];
      while (replies.length < all.length) replies.push(await wire.reply());
      expect(replies.slice(0, 5)).to.deep.equal([OK, QUEUED, QUEUED, QUEUED, QUEUED]);
      const [first, echoed, second, error] = replies[5] as Reply[];
      expect([first, echoed, second]).to.deep.equal([[0, 3, 2, -1, 3_600], 'x', [0, 3, 1, -1, 7_200]]);
      expect(errorOf(error!)).to.include('integer');
      expect(await wire.reply()).to.deep.equal({ status: 'PONG' });
      for (const byte of Buffer.concat([command('MULTI'), throttle(key), command('EXEC')]))
        wire.send(Buffer.from([byte]));
      expect([await wire.reply(), await wire.reply()]).to.deep.equal([OK, QUEUED]);
      expect(((await wire.reply()) as number[][])[0]!.slice(0, 3)).to.deep.equal([0, 3, 0]);
      expect(await wire.ask('MULTI')).to.deep.equal(OK);
      expect(await wire.ask('EXEC')).to.deep.equal([]);
    });

    it('are forgotten by DISCARD, by RESET, and by the end of the connection', async () => {
      const key = newClient();
      for (const end of ['DISCARD', 'RESET']) {
        wire.send(command('MULTI'), throttle(key), command(end));
        for (const reply of [OK, QUEUED]) expect(await wire.reply()).to.deep.equal(reply);
        expect(await wire.reply()).to.deep.equal({ status: end === 'RESET' ? end : 'OK' });
        for (const name of ['EXEC', 'DISCARD'])
          expect(errorOf(await wire.ask(name))).to.equal(`ERR ${name} without MULTI`);
      }
      const other = await connectResp(node.respPort!);
      other.send(command('MULTI'), throttle(key), command('QUIT'), command('EXEC'));
      expect(await other.rest()).to.deep.equal([OK, QUEUED, OK]);
      expect(await wire.ask('CL.THROTTLE', key, 2, 1, 3_600)).to.deep.equal([0, 3, 2, -1, 3_600]);
    });

    it('run not at all if one of them was refused', async () => {
      const key = newClient();
      const bytes = command('ECHO', Buffer.from([0xff]));
      for (const wrong of [command('NOPE'), command('ECHO'), bytes]) {
        wire.send(command('MULTI'), throttle(key), wrong, command('MULTI'), command('EXEC'));
        expect([await wire.reply(), await wire.reply()]).to.deep.equal([OK, QUEUED]);
        for (const reply of [await wire.reply(), await wire.reply()]) expect(reply).to.have.property('error');
        expect(errorOf(await wire.reply())).to.equal(ABORTED);
      }
      expect(await wire.ask('CL.THROTTLE', key, 2, 1, 3_600)).to.deep.equal([0, 3, 2, -1, 3_600]);
    });

    it('are bounded in number and in bytes', async () => {
      for (const [one, fit] of [
        [command('PING'), 1_000],
        [command('ECHO', 'x'.repeat(16_000)), 8],
      ] as const) {
        wire.send(command('MULTI'), ...Array<Buffer>(fit + 1).fill(one), command('EXEC'));
        expect(await wire.reply()).to.deep.equal(OK);
        for (let i = 0; i < fit; i += 1) expect(await wire.reply()).to.deep.equal(QUEUED);
        expect(errorOf(await wire.reply())).to.match(/^ERR too much between MULTI and EXEC; use at most 1000 commands/);
        expect(errorOf(await wire.reply())).to.equal(ABORTED);
      }
    });
  });

  it('take database 0, which libraries choose when they connect, and no other', async () => {
    expect(await wire.ask('SELECT', 0)).to.deep.equal({ status: 'OK' });
    for (const other of ['1', '-1', 'x'])
      expect(errorOf(await wire.ask('SELECT', other))).to.equal(
        'ERR DB index is out of range; Tokenring has database 0 alone',
      );
  });

  it('are answered in order, however many come at once and whatever they are', async () => {
    const clientId = newClient();
    const commands: Buffer[] = [];
    for (let i = 0; i < 2_000; i += 1) {
      commands.push(command('CL.THROTTLE', clientId, 9_999, 1, 86_400), command('PING', `${i}`));
      if (i % 7 === 0) commands.push(command('TR.DESCRIBE', clientId), command('NONSENSE'));
    }
    wire.send(...commands);
    for (let i = 0; i < 2_000; i += 1) {
      expect(((await wire.reply()) as number[])[2]).to.equal(9_999 - i);
      expect(await wire.reply()).to.equal(`${i}`);
      if (i % 7 !== 0) continue;
      expect(((await wire.reply()) as Reply[])[1]).to.equal(clientId);
      expect(errorOf(await wire.reply())).to.include('NONSENSE');
    }
  });

  it('are counted as those of HTTP are', async () => {
    const read = async (): Promise<number[]> => {
      const { text } = await call(node, '/metrics');
      const names = [
        'tokenring_decisions_total{outcome="allowed",source="owner"}',
        'tokenring_decision_seconds_count{source="owner"}',
        'tokenring_decision_seconds_count{source="batch"}',
        'tokenring_problems_total{code="unknown_policy"}',
      ];
      return names.map((name) =>
        Number(
          text
            .split('\n')
            .find((line) => line.startsWith(`${name} `))
            ?.split(' ')[1] ?? 0,
        ),
      );
    };
    const before = await read();
    const asked = command('TR.ALLOW', newClient(), 'LIMIT', 9, 'WINDOW', '1d');
    await wire.ask('TR.ALLOW', 'x', 'POLICY', 'nobody');
    wire.send(asked);
    await wire.reply();
    wire.send(asked, asked, asked);
    for (let i = 0; i < 3; i += 1) await wire.reply();
    expect((await read()).map((count, i) => count - before[i]!)).to.deep.equal([4, 1, 1, 1]);
    const { text } = await call(node, '/metrics');
    expect(text).to.match(/^tokenring_connections\{protocol="resp"\} [1-9]/m);
    expect(text).to.match(/^tokenring_requests_in_flight 0$/m);
  });
});

describe('tokens over the Redis protocol', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-resp-'));
  const path = join(folder, 'tokens.json');
  const roles: Record<string, string> = { gate: 'decide', looker: 'read', boss: 'admin' };
  const write = (names: readonly string[]): void => {
    const tokens = names.map((name) => ({ name, roles: [roles[name]], sha256: sha256(`secret of ${name}`) }));
    writeFileSync(`${path}.new`, JSON.stringify({ require: ['read', 'decide'], tokens }));
    renameSync(`${path}.new`, path);
  };
  let node: RunningNode;
  before(async () => {
    write(['gate', 'looker', 'boss']);
    node = await startNode(readSettings([...ALONE, '--tokens', path, '--resp-port', '0'], {}));
  });
  after(async () => {
    await node.stop();
    rmSync(folder, { recursive: true });
  });
  const asked = ['TR.ALLOW', 'x', 'LIMIT', 1_000, 'WINDOW', '1d'] as const;
  const isDecided = (reply: Reply): boolean => Array.isArray(reply);

  it('open what their roles open, by AUTH and by HELLO', async () => {
    for (const [name, decides, reads] of [
      ['gate', true, false],
      ['looker', false, true],
      ['boss', true, true],
    ] as const) {
      const wires = [await connectResp(node.respPort!), await connectResp(node.respPort!)];
      expect(await wires[0]!.ask('AUTH', `secret of ${name}`)).to.deep.equal({ status: 'OK' });
      expect(await wires[1]!.ask('HELLO', 2, 'AUTH', name, `secret of ${name}`)).to.include('tokenring');
      for (const wire of wires) {
        const [decided, described] = [await wire.ask(...asked), await wire.ask('TR.DESCRIBE', 'x')];
        expect([isDecided(decided), isDecided(described)]).to.deep.equal([decides, reads]);
        if (!decides) expect(errorOf(decided)).to.match(/^NOPERM .* a token with the role decide$/);
        wire.socket.destroy();
      }
    }
  });

  it('are needed for everything but to show one, to say the version, and to leave', async () => {
    const wire = await connectResp(node.respPort!);
    for (const args of [
      asked,
      ['PING'],
      ['MULTI'],
      ['SELECT', 0],
      ['INFO'],
      ['COMMAND'],
      ['CLIENT', 'ID'],
      ['TR.DESCRIBE', 'x'],
      ['HELLO', 3],
    ])
      expect(errorOf(await wire.ask(...args)), args.join(' ')).to.match(/^NOAUTH /);
    wire.send(command(...asked), command('CL.THROTTLE', 'x', 1, 1, 1));
    expect(errorOf(await wire.reply())).to.equal('NOAUTH Authentication required.');
    expect(errorOf(await wire.reply())).to.equal('NOAUTH Authentication required.');
    expect(await wire.ask('QUIT')).to.deep.equal({ status: 'OK' });
  });

  it('end a connection that shows three wrong ones, or good ones under wrong names', async () => {
    const wire = await connectResp(node.respPort!);
    const guesses = [command('AUTH', 'guess'), command('AUTH', 'boss', 'secret of gate'), command('AUTH', 'x', 'y')];
    wire.send(...guesses, command('AUTH', 'secret of boss'), command(...asked));
    const replies = await wire.rest();
    expect(replies.map((reply) => errorOf(reply).split(' ')[0])).to.deep.equal(['WRONGPASS', 'WRONGPASS', 'WRONGPASS']);
  });

  it('open nothing any more once they are removed from the file, on open connections too', async () => {
    const wire = await connectResp(node.respPort!);
    await wire.ask('AUTH', 'secret of gate');
    expect(isDecided(await wire.ask(...asked))).to.equal(true);
    write(['boss']);
    const refused = await eventually(
      () => wire.ask(...asked),
      (reply) => !isDecided(reply),
    );
    expect(errorOf(refused)).to.match(/^NOAUTH /);
    write(['gate', 'looker', 'boss']);
    await eventually(() => wire.ask(...asked), isDecided);
    wire.socket.destroy();
  });
});
