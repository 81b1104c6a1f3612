import { expect } from 'chai';
import fc from 'fast-check';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Log, systemClock } from '../../src/lib/system.js';
import { isClientId } from '../../src/limits/client-id.js';
import { createNode } from '../../src/index.js';
import { LmdbFile } from '../../src/store/lmdb-file.js';
import { LmdbStore } from '../../src/store/lmdb.js';
import { parseRedisAddress } from '../../src/store/redis-address.js';
import { RedisStore } from '../../src/store/redis.js';
import { decodeClients, encodeClients } from '../../src/state/client-format.js';
import { eventually } from '../support/eventually.js';
import { owing, readAll } from '../support/stored.js';
import { describeWith } from '../support/programs.js';
import { startValkey, type Valkey } from '../support/valkey.js';

const HOUR_MS = 3_600_000;

/** Ids at the edges of every key space, and the longest ones. */
const EDGES = listed(
  ...Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)),
  ...['\0\0', '\0a', '\u0001\0', '\uffff', '\u{10ffff}', '\ufeff', '\ufffd', 'a\0', 'a', 'a\n:c:', ' ', '/', '..'],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'head',
    '{0}',
    '}:c:{',
    'tokenring:format',
    'tokenring:{0}:lock',
    '*?[a]\\',
  ],
  ...['\0'.repeat(256), 'x'.repeat(256), '\u{1f4a7}'.repeat(64), '\uffff'.repeat(85), `${'x'.repeat(255)}\0`],
);

function listed(...ids: string[]): string[] {
  return [...new Set(ids)];
}

/** Any id that the API admits. */
const anyId = fc.oneof(
  fc.constantFrom(...EDGES),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 64 }),
  fc.string({ unit: fc.constantFrom('\0', '\u0001', '\u007f', '\u0080', '\uffff', ':', '{', '}'), minLength: 1 }),
);
const anyIds = fc.uniqueArray(anyId.filter(isClientId), { minLength: 1, maxLength: 60 });

const byId = (ids: Iterable<string>): string[] => [...ids].sort();
const log: Log = { info: () => undefined, warn: () => undefined };

describe('what goes into a store comes out, and leaves, for any id', function () {
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'tokenring-any-id-'));
  let files = 0;
  const newPath = (): string => join(folder, `store-${(files += 1)}`);
  after(() => rmSync(folder, { recursive: true }));

  /** Writes, reopens, reads, removes, and sweeps these ids. */
  async function checkFile(ids: readonly string[]): Promise<void> {
    const path = newPath();
    const nowMs = 1_000_000_000_000;
    const time = { earliestMs: nowMs, latestMs: nowMs };
    let file = new LmdbFile(path);
    async function reopened(): Promise<string[]> {
      await file.close();
      file = new LmdbFile(path);
      const found: string[] = [];
      for (let after: string | undefined; ;) {
        const chunk = file.load(after, nowMs);
        for (const [id] of decodeClients(chunk.clients)) found.push(id);
        if ((after = chunk.after) === undefined) break;
      }
      expect(file.members()).to.deep.equal(['10.0.0.2:9080']);
      return byId(found);
    }
    const write = (some: readonly string[], forgotten: readonly string[]): void => {
      const clients = encodeClients(some.map((id) => owing(id, 8, HOUR_MS)));
      file.write({ op: 'write', time, clients, forgotten, members: ['10.0.0.2:9080'] });
    };
    try {
      write(ids, []);
      expect(await reopened()).to.deep.equal(byId(ids));
      const [gone, kept] = [ids.slice(0, ids.length / 2), ids.slice(ids.length / 2)];
      write([], gone);
      expect(await reopened()).to.deep.equal(byId(kept));
      for (let sweeps = 0; sweeps < 2; sweeps += 1) file.sweep(nowMs + HOUR_MS);
      expect(await reopened()).to.deep.equal([]);
    } finally {
      await file.close();
      rmSync(path);
    }
  }

  it('in an LMDB file', async () => {
    await checkFile(EDGES);
    await fc.assert(fc.asyncProperty(anyIds, checkFile), { numRuns: 60 });
  });

  it('in an LMDB file that another process has open, in chunks', async () => {
    const deps = { log, clock: systemClock, wallMs: Date.now, timers: { every: () => () => undefined } };
    const path = newPath();
    const ids = EDGES.flatMap((id) => ['', '1', '2', '\0'].map((end) => (isClientId(id + end) ? id + end : id)));
    const first = await LmdbStore.open(path, deps);
    await first.write(
      [...new Set(ids)].map((id) => owing(id, 8, HOUR_MS)),
      [],
    );
    await first.close();
    const second = await LmdbStore.open(path, deps);
    const { clients, chunks } = await readAll(second);
    await second.close();
    expect(chunks).to.be.above(1);
    expect(byId(clients.keys())).to.deep.equal(byId(new Set(ids)));
  });

  it('across a restart of a node, by single checks and by batches', async () => {
    const options = { store: `lmdb:${newPath()}`, peerPort: 0 };
    const half = EDGES.length / 2;
    const admitted: string[] = [];
    for (let start = 0; start < 2; start += 1) {
      const node = await createNode(options);
      try {
        for (const id of EDGES.slice(0, half)) if (await node.allow(id, 1, '1d')) admitted.push(id);
        const batch = EDGES.slice(half);
        const decisions = await node.checkMany(batch.map((clientId) => ({ clientId, limit: 1, window: '1d' })));
        decisions.forEach((decision, i) => 'allowed' in decision && decision.allowed && admitted.push(batch[i]!));
      } finally {
        await node.close();
      }
      expect(byId(admitted), `start ${start}`).to.deep.equal(byId(EDGES));
    }
  });

  describeWith('in a Valkey', ['valkey-server', 'valkey-cli'], () => {
    let valkey: Valkey;
    before(async () => (valkey = await startValkey()));
    after(() => valkey.remove());
    const open = () => RedisStore.open(parseRedisAddress(valkey.url)!, { log, clock: systemClock });
    const cli = (...args: string[]): string =>
      spawnSync('valkey-cli', ['-p', String(valkey.port), ...args], { encoding: 'utf8' }).stdout.trim();
    /** Keys that are of no client: the format, locks, and fencing numbers. */
    const others = (): string[] =>
      (JSON.parse(cli('--json', 'KEYS', '*')) as string[]).filter((key) => !/^[^}]*\{\d+\}:c:/.test(key));

    it('comes out and leaves', async () => {
      const check = async (ids: readonly string[]): Promise<void> => {
        cli('FLUSHALL');
        const first = await open();
        expect(
          await first.write(
            ids.map((id) => owing(id, 8, HOUR_MS)),
            [],
          ),
        ).to.include({ kind: 'done' });
        await first.close();
        expect(cli('GET', 'tokenring:format')).to.equal('2');
        for (const key of others()) expect(key).to.match(/^tokenring:(format|\{\d+\}:(lock|fence))$/);
        const second = await open();
        expect(byId((await readAll(second)).clients.keys())).to.deep.equal(byId(ids));
        const [gone, kept] = [ids.slice(0, ids.length / 2), ids.slice(ids.length / 2)];
        // A record of the same millisecond as the removal may be later than it.
        const start = Date.now();
        await eventually(
          () => Date.now() - start,
          (ms) => ms > 2,
        );
        await second.write([], gone);
        expect(byId((await readAll(second)).clients.keys())).to.deep.equal(byId(kept));
        await second.close();
      };
      await check(EDGES);
      await fc.assert(fc.asyncProperty(anyIds, check), { numRuns: 15 });
    });

    it('expires', async () => {
      const store = await open();
      cli('FLUSHALL');
      await store.write(
        EDGES.map((id) => owing(id, 8, 100)),
        [],
      );
      const keys = (): string => cli('--raw', 'EVAL', "return #redis.call('KEYS', '*:c:*')", '0');
      expect(await eventually(keys, (count) => count === '0')).to.equal('0');
      await store.close();
    });
  });
});
