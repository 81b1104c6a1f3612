import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as lmdb from 'lmdb';
import type { RootDatabase } from 'lmdb';
import { type LastingClient, type Store, StoreError } from '../../src/store/store.js';
import type { Log } from '../../src/lib/system.js';
import { LmdbFile } from '../../src/store/lmdb-file.js';
import { LmdbStore } from '../../src/store/lmdb.js';
import { decodeClients, encodeClients } from '../../src/state/client-format.js';
import { owing, readAll } from '../support/stored.js';

const HOUR_MS = 3_600_000;

function openRaw(path: string): RootDatabase<Buffer, Buffer> {
  return lmdb.open<Buffer, Buffer>({ path, noSubdir: true, encoding: 'binary', keyEncoding: 'binary' });
}

/** Writes values under keys in hexadecimal; `undefined` removes one. */
async function putRaw(path: string, values: Readonly<Record<string, string | undefined>>): Promise<void> {
  const db = openRaw(path);
  for (const [key, value] of Object.entries(values)) {
    if (value === undefined) db.removeSync(Buffer.from(key, 'hex'));
    else db.putSync(Buffer.from(key, 'hex'), Buffer.from(value, 'latin1'));
  }
  await db.close();
}

async function getRaw(path: string, key: string): Promise<string | undefined> {
  const db = openRaw(path);
  const value = db.get(Buffer.from(key, 'hex'))?.toString('latin1');
  await db.close();
  return value;
}

describe('the LMDB store', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-lmdb-'));
  const lines: string[] = [];
  const log: Log = { info: (_, message) => lines.push(message), warn: (_, message) => lines.push(message) };
  const open_: Store[] = [];
  let files = 0;
  /** Wall clock and monotonic clock, which a step of the wall clock sets apart. */
  let nowMs = 0;
  let monotonicMs = 0;
  const sweeps = new Set<() => void>();
  const timers = {
    every(_: number, sweep: () => void) {
      sweeps.add(sweep);
      return () => sweeps.delete(sweep);
    },
  };
  const pass = (ms: number): void => {
    nowMs += ms;
    monotonicMs += ms;
    for (const sweep of sweeps) sweep();
  };

  const newPath = (): string => join(folder, `store-${(files += 1)}`);
  async function open(path: string): Promise<Store> {
    const store = await LmdbStore.open(path, { log, wallMs: () => nowMs, clock: { nowMs: () => monotonicMs }, timers });
    open_.push(store);
    return store;
  }
  beforeEach(() => {
    lines.length = 0;
    nowMs = Date.now();
    monotonicMs = 0;
  });
  afterEach(() => Promise.all(open_.splice(0).map((store) => store.close())));
  after(() => rmSync(folder, { recursive: true }));

  it('returns what was written after a restart, less what time has refilled', async () => {
    const path = newPath();
    const first = await open(path);
    expect(
      await first.write(
        [owing('alice', 80, 10_000), owing('__proto__', 30, 10_000), owing('\u{1f4a7}', 1, 10_000)],
        [],
      ),
    ).to.include({
      kind: 'done',
    });
    await first.close();
    nowMs += 2_000;
    const { clients } = await readAll(await open(path));
    expect(clients).to.deep.equal(new Map([owing('alice', 78, 10_000), owing('__proto__', 28, 10_000)]));
  });

  it('merges everything that several processes write to one file', async () => {
    const path = newPath();
    const stores = await Promise.all([1, 2, 3].map(() => open(path)));
    const most = new Map<string, number>();
    for (let round = 0; round < 5; round += 1) {
      const writes = stores.map((store, s) => {
        const tokens = Array.from({ length: 50 }, (_, i) => 1 + ((7 * i + 11 * s + 13 * round) % 97));
        tokens.forEach((count, i) => most.set(`client ${i}`, Math.max(count, most.get(`client ${i}`) ?? 0)));
        return store.write(
          tokens.map((count, i) => owing(`client ${i}`, count, HOUR_MS)),
          [],
        );
      });
      for (const result of await Promise.all(writes)) expect(result).to.include({ kind: 'done' });
    }
    const { clients } = await readAll(await open(path));
    expect(clients).to.deep.equal(new Map([...most].map(([id, tokens]) => owing(id, tokens, HOUR_MS))));
  });

  it('removes a forgotten client, unless it was written later', async () => {
    const store = await open(newPath());
    await store.write([owing('alice', 8, HOUR_MS), owing('bob', 8, HOUR_MS)], []);
    pass(-1);
    await store.write([], ['bob']);
    pass(1);
    await store.write([owing('alice', 2, HOUR_MS)], ['alice']);
    expect((await readAll(store)).clients).to.deep.equal(
      new Map([owing('alice', 2, HOUR_MS), owing('bob', 8, HOUR_MS)]),
    );
  });

  it('reads in chunks, from the first client to the last', async () => {
    const path = newPath();
    const store = await open(path);
    const clients = Array.from({ length: 1_700 }, (_, i) => owing(`client ${i}`, 5, HOUR_MS));
    await store.write(clients, []);
    const read = await readAll(store);
    expect(read.clients.size).to.equal(1_700);
    expect(read.chunks).to.be.above(3);
    let kept = 0;
    await store.load((some) => (kept += some.length) < 600);
    expect(kept).to.equal(1_000);
  });

  it('removes expired clients', async () => {
    const path = newPath();
    const store = await open(path);
    await store.write([owing('alice', 1), owing('bob', 100, HOUR_MS)], []);
    await store.close();
    const file = new LmdbFile(path);
    file.sweep(nowMs + 200);
    expect(decodeClients(file.load(undefined, 0).clients).map(([id]) => id)).to.deep.equal(['bob']);
    await file.close();
  });

  it('sweeps again and again, until all expired clients are removed', async () => {
    const path = newPath();
    const store = await open(path);
    const ids = Array.from({ length: 1_300 }, (_, i) => `expiring ${i}`);
    const others = Array.from({ length: 1_200 }, (_, i) => owing(`a lasting client ${i}`, 100, HOUR_MS));
    await store.write(others, []);
    const stored = async (): Promise<number> => {
      await store.write([], []);
      const file = new LmdbFile(path);
      let count = 0;
      for (let after: string | undefined; ;) {
        const chunk = file.load(after, 0);
        count += decodeClients(chunk.clients).length;
        if ((after = chunk.after) === undefined) break;
      }
      await file.close();
      return count;
    };
    for (let round = 1; round <= 2; round += 1) {
      await store.write(
        ids.map((id) => owing(id, 1)),
        [],
      );
      expect(await stored(), `round ${round}`).to.equal(2_500);
      for (let sweep = 1; sweep <= 4; sweep += 1) {
        pass(1_000);
        await store.write([], []);
      }
      expect(await stored(), `round ${round}`).to.equal(1_200);
    }
  });

  describe('on a machine whose wall clock steps', () => {
    const DAY_MS = 24 * HOUR_MS;
    const restarted = async (path: string): Promise<unknown> => {
      await open_.splice(0)[0]!.close();
      return (await readAll(await open(path))).clients.get('alice')?.[0]!.state[0];
    };

    it('a day ahead for 12 s refills nothing, whether or not a client changes meanwhile', async () => {
      for (const ids of [['alice'], ['bob']]) {
        const path = newPath();
        const store = await open(path);
        await store.write([owing('alice', 80, HOUR_MS)], []);
        nowMs += DAY_MS;
        for (let second = 1; second <= 12; second += 1) {
          pass(1_000);
          await store.write(
            ids.map((id) => owing(id, id === 'bob' ? 5 : 79, HOUR_MS)),
            [],
          );
        }
        nowMs -= DAY_MS;
        pass(1_000);
        expect(await restarted(path), `while ${ids.join()} changed`).to.equal(79);
      }
    });

    it('a day ahead refills nothing if the node is killed meanwhile and restarted afterwards', async () => {
      const path = newPath();
      const store = await open(path);
      nowMs += DAY_MS;
      pass(1_000);
      await store.write([owing('alice', 80, HOUR_MS)], []);
      nowMs -= DAY_MS;
      expect(await restarted(path)).to.equal(80);
    });

    it('a day ahead does not let a smaller state replace the stored one', async () => {
      const path = newPath();
      const store = await open(path);
      await store.write([owing('alice', 80, HOUR_MS)], []);
      nowMs += DAY_MS;
      pass(1_000);
      await store.write([owing('alice', 2, HOUR_MS)], []);
      nowMs -= DAY_MS;
      expect(await restarted(path)).to.equal(79);
    });

    it('a day back refills nothing, and a client is forgotten although its record is from the future', async () => {
      const path = newPath();
      const store = await open(path);
      await store.write([owing('alice', 80, HOUR_MS), owing('bob', 80, HOUR_MS)], []);
      nowMs -= DAY_MS;
      pass(1_000);
      await store.write([owing('alice', 80, HOUR_MS)], []);
      nowMs += DAY_MS;
      pass(1_000);
      expect(await restarted(path)).to.equal(79);
      const again = open_.at(-1)!;
      nowMs -= DAY_MS;
      await (await open(path)).write([], ['alice']);
      expect([...(await readAll(again)).clients.keys()]).to.deep.equal(['bob']);
    });

    it('a day ahead for an hour is trusted', async () => {
      const path = newPath();
      const store = await open(path);
      await store.write([owing('alice', 100, HOUR_MS)], []);
      nowMs += DAY_MS;
      pass(1_000);
      await store.write([], []);
      pass(HOUR_MS);
      await store.write([owing('bob', 100, HOUR_MS)], []);
      pass(1_000);
      expect([...(await readAll(store)).clients.keys()]).to.deep.equal(['bob']);
    });
  });

  it('refuses a file that another version has written, and does not change it', async () => {
    const path = newPath();
    await (await open(path)).write([owing('alice', 8)], []);
    await open_.splice(0)[0]!.close();
    await putRaw(path, { '00': '{"tokenring":2}' });
    let caught: unknown;
    await open(path).catch((error: unknown) => (caught = error));
    expect(caught).to.be.instanceOf(StoreError);
    expect((caught as Error).message)
      .to.include(path)
      .and.to.include('format 2')
      .and.to.include('reads 3');
    expect(readdirSync(folder).filter((name) => name.includes('damaged'))).to.deep.equal([]);
  });

  describe('with a damaged head', () => {
    /** A file with one client and these values. */
    async function damaged(values: Readonly<Record<string, string | undefined>>): Promise<string> {
      const path = newPath();
      const clients = encodeClients([owing('alice', 8, HOUR_MS)]);
      const time = { earliestMs: nowMs, latestMs: nowMs };
      const file = new LmdbFile(path);
      file.write({ op: 'write', time, clients, forgotten: [], members: ['10.0.0.2:9080'] });
      await file.close();
      await putRaw(path, values);
      return path;
    }

    it('rebuilds it if the records can be read, and says so once', async () => {
      const heads = [undefined, '', 'garbage', 'null', '[1,2]', '{"members":["a"]}', '{"tokenring":"2"}', '\0\xff'];
      for (const head of heads) {
        const path = await damaged({ '00': head });
        const warning = `${path} had no valid head; rebuilt it, without the members of the last ring`;
        for (const warnings of [[warning], []]) {
          const file = new LmdbFile(path);
          expect(file.warnings, head).to.deep.equal(warnings);
          expect(file.members(), head).to.deep.equal([]);
          expect(decodeClients(file.load(undefined, nowMs).clients), head).to.have.length(1);
          await file.close();
        }
      }
    });

    it('logs that it was rebuilt', async () => {
      const path = await damaged({ '00': 'garbage' });
      expect((await readAll(await open(path))).clients).to.deep.equal(new Map([owing('alice', 8, HOUR_MS)]));
      expect(lines).to.deep.equal([`${path} had no valid head; rebuilt it, without the members of the last ring`]);
    });

    it('sets the file aside if no record can be read, and keeps it as it was', async () => {
      for (const values of [
        { '00': 'garbage', '01616c696365': 'garbage' },
        { '00': undefined, '616c696365': '[1]' },
      ]) {
        const path = await damaged(values);
        lines.length = 0;
        const store = await open(path);
        expect((await readAll(store)).result).to.deep.equal({ kind: 'done', left: [], lost: true });
        expect(lines).to.deep.equal(['the store file is damaged; renamed it, beginning a new one']);
        const aside = readdirSync(folder).filter((name) => join(folder, name).startsWith(`${path}.damaged-`));
        expect(aside).to.have.length(1);
        for (const [key, value] of Object.entries(values))
          expect(await getRaw(join(folder, aside[0]!), key)).to.equal(value);
      }
    });
  });

  it('keeps its files from other users, also those that were there before', async () => {
    const modesOf = (path: string): string[] =>
      [path, `${path}-lock`].map((file) => (statSync(file).mode & 0o777).toString(8));
    const path = newPath();
    await open(path);
    expect(modesOf(path)).to.deep.equal(['600', '600']);
    await open_.splice(0)[0]!.close();
    for (const file of [path, `${path}-lock`]) chmodSync(file, 0o644);
    await open(path);
    expect(modesOf(path)).to.deep.equal(['600', '600']);
    expect(lines).to.deep.equal([]);
  });

  describe('with a damaged file', () => {
    async function expectRenamed(path: string): Promise<void> {
      const store = await open(path);
      expect((await readAll(store)).result).to.deep.equal({ kind: 'done', left: [], lost: true });
      expect(lines).to.include('the store file is damaged; renamed it, beginning a new one');
      expect(await store.write([owing('bob', 3, HOUR_MS)], [])).to.deep.equal({ kind: 'done', left: [], lost: false });
      expect((await readAll(store)).clients).to.deep.equal(new Map([owing('bob', 3, HOUR_MS)]));
      expect(readdirSync(folder).some((name) => join(folder, name).startsWith(`${path}.damaged-`))).to.equal(true);
    }

    it('renames a file that is not an LMDB file, and begins a new one', async () => {
      const path = newPath();
      writeFileSync(path, 'this is no LMDB file. '.repeat(1_000));
      await expectRenamed(path);
    });

    it('renames a truncated file, even if reading it kills the process', async () => {
      const path = newPath();
      const store = await open(path);
      for (let i = 0; i < 4; i += 1) {
        await store.write(
          Array.from({ length: 1_000 }, (_, j) => owing(`client ${i} ${j}`, 9, HOUR_MS)),
          [],
        );
      }
      await store.close();
      truncateSync(path, Math.min(16_384, statSync(path).size / 4));
      await expectRenamed(path);
    });

    it('goes on with a new file if the old one is truncated while it is open', async () => {
      const path = newPath();
      const store = await open(path);
      for (let i = 0; i < 4; i += 1) {
        await store.write(
          Array.from({ length: 1_000 }, (_, j) => owing(`client ${i} ${j}`, 9, HOUR_MS)),
          [],
        );
      }
      truncateSync(path, 16_384);
      let last = await store.write([owing('bob', 3, HOUR_MS)], []);
      for (let i = 0; i < 5 && !lines.includes('the store file is damaged; renamed it, beginning a new one'); i += 1) {
        last = await store.write([owing(`client 2 ${i}`, 3)], []);
      }
      expect(last).to.deep.equal({ kind: 'done', left: [], lost: true });
      expect(await store.write([owing('bob', 3, HOUR_MS)], [])).to.include({ kind: 'done' });
    });
  });

  it('reports at the next write that its file was removed, and begins a new one', async () => {
    const path = newPath();
    const store = await open(path);
    await store.write([owing('alice', 3, HOUR_MS)], []);
    rmSync(path);
    rmSync(`${path}-lock`);
    expect(await store.write([owing('bob', 5, HOUR_MS)], [])).to.deep.equal({ kind: 'done', left: [], lost: true });
    expect(lines).to.include('the store file was removed; beginning a new one');
    expect(await store.write([owing('alice', 4, HOUR_MS)], [])).to.deep.equal({ kind: 'done', left: [], lost: false });
    expect([...(await readAll(await open(path))).clients.keys()].sort()).to.deep.equal(['alice', 'bob']);
  });

  it('ends its process silently if the node is killed while it waits for a reply', () => {
    const script = new URL('../../src/store/lmdb-child.ts', import.meta.url).pathname;
    const node = `
      const child = require('node:child_process').fork(${JSON.stringify(script)}, { execArgv: ['--import', 'tsx'] });
      child.on('message', () => process.kill(process.pid, 'SIGKILL'));
      child.send({ op: 'open', path: ${JSON.stringify(newPath())} });
      for (let i = 0; i < 200; i += 1) child.send({ op: 'load', after: undefined, nowMs: 0 });`;
    // The call returns after the child process has ended too, since it shares the standard error.
    const { signal, stderr } = spawnSync(process.execPath, ['-e', node], { encoding: 'utf8', timeout: 15_000 });
    expect(stderr).to.equal('');
    expect(signal).to.equal('SIGKILL');
  });

  it('fails while there is no space left, and goes on once there is', async function () {
    const small = join(folder, 'small');
    const mounted = spawnSync('sh', ['-c', `mkdir ${small} && mount -t tmpfs -o size=512k tmpfs ${small}`]);
    if (mounted.status !== 0) {
      this.test!.title += ' (pending: mounting a small tmpfs needs root)';
      return this.skip();
    }
    try {
      const store = await open(join(small, 'store'));
      const filling = (i: number): LastingClient[] =>
        Array.from({ length: 500 }, (_, j) =>
          owing(`a client with quite a long name, of batch ${i}, number ${j}`, 9, HOUR_MS),
        );
      let failed;
      for (let i = 0; i < 20 && failed === undefined; i += 1) {
        const result = await store.write(filling(i), []);
        if (result.kind === 'failed') failed = result;
      }
      expect(failed, 'it took more than fits').not.to.equal(undefined);
      expect(spawnSync('mount', ['-o', 'remount,size=16m', small]).status).to.equal(0);
      await sleep(50);
      expect(await store.write(filling(99), [])).to.include({ kind: 'done' });
      const { clients } = await readAll(store);
      expect(clients.has('a client with quite a long name, of batch 0, number 0')).to.equal(true);
      expect(clients.has('a client with quite a long name, of batch 99, number 499')).to.equal(true);
      expect(lines.filter((line) => line.includes('damaged'))).to.deep.equal([]);
      await store.close();
    } finally {
      spawnSync('umount', ['-l', small]);
    }
  });
});
