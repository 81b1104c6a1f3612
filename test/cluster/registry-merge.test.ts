import { expect } from 'chai';
import { ActivePolicies } from '../../src/policy/active-policies.js';
import { RegistryMerge } from '../../src/node/policies/registry-merge.js';
import type { KnownPolicies } from '../../src/membership/registry-policy-store.js';
import type { PolicyWriteResult } from '../../src/membership/registry.js';
import { change, NO_DOCUMENT, type PolicyDocument } from '../../src/policy/policy-document.js';
import { policyKey } from '../../src/policy/policy-entry.js';
import { createFakeClock } from '../support/fake-clock.js';

const write = (document: PolicyDocument, name: string, limit: number): PolicyDocument =>
  change(document, new Map([[policyKey(name), { limit, window: '1m' }]]), 'a:1');
const MINE = write(NO_DOCUMENT, 'mine', 1);
const THEIRS = write(write(NO_DOCUMENT, 'theirs', 2), 'theirs', 3);
const stored = (document: PolicyDocument, registry = 'one', revision = 1): KnownPolicies => ({
  registry,
  stored: { kind: 'document', revision, document },
});
const unreadable = (revision: number): KnownPolicies => ({
  registry: 'one',
  stored: { kind: 'unreadable', revision, reason: 'not JSON' },
});

function createBench() {
  const clock = createFakeClock(1_000);
  const activePolicies = new ActivePolicies((_, rules) => rules);
  const log: [message: string, fields: object][] = [];
  const note = (fields: object, message: string): void => void log.push([message, fields]);
  let listener = (): void => undefined;
  const bench = {
    clock,
    activePolicies,
    log,
    known: undefined as KnownPolicies | undefined,
    answers: true,
    result: { kind: 'written', revision: 2 } as PolicyWriteResult,
    writes: [] as PolicyDocument[],
    /** The registry has other policies now. */
    show(known: KnownPolicies): void {
      bench.known = known;
      listener();
    },
    messages: (): string[] => log.map(([message]) => message),
  };
  const registryMerge = new RegistryMerge({
    clock,
    timers: {
      sleep: (ms) => Promise.resolve(clock.advance(ms)),
      soon: () => undefined,
      every: () => () => undefined,
    },
    log: { info: note, warn: note },
    activePolicies,
    policyStore: {
      known: () => bench.known,
      onChange: (next) => void (listener = next),
      refresh: () => Promise.resolve(bench.answers),
      store(document) {
        bench.writes.push(document);
        if (bench.result.kind === 'written') bench.show(stored(document, bench.known!.registry, 2));
        return Promise.resolve(bench.result);
      },
    },
  });
  return Object.assign(bench, { merge: registryMerge });
}

const WROTE = 'wrote the policies of this node to the registry';
const OVERWRITTEN = 'other nodes have overwritten policies of this node';

describe('the policies of a registry', () => {
  it('are in force once they have all that this node holds', () => {
    const bench = createBench();
    bench.show(stored(THEIRS));
    expect(bench.activePolicies.document()).to.equal(THEIRS);
    expect(bench.activePolicies.registry()).to.equal('one');
    bench.show(stored(write(THEIRS, 'more', 1)));
    expect(bench.activePolicies.document().version).to.equal(3);
    // A later state of the same registry has all of an earlier one, also if it lacks entries of it.
    bench.show(stored({ ...write(NO_DOCUMENT, 'other', 1), version: 3 }));
    expect(bench.activePolicies.set().policies.has('other')).to.equal(true);
    expect(bench.messages()).to.deep.equal([]);
  });

  it('are written with those of this node where it meets a registry that lacks them', async () => {
    const bench = createBench();
    bench.activePolicies.adopt(MINE);
    bench.show(stored(THEIRS));
    expect(bench.activePolicies.document()).to.equal(MINE);
    expect(bench.merge.isComplete({ known: bench.known!, document: THEIRS })).to.equal(false);
    expect(await bench.merge.merge()).to.equal(true);
    expect([...bench.writes[0]!.entries.keys()]).to.have.members(['policy mine', 'policy theirs']);
    expect(bench.activePolicies.document()).to.equal(bench.writes[0]);
    const { version } = bench.writes[0]!;
    expect(bench.log).to.deep.equal([[WROTE, { version, replaced: 2, overwritten: [] }]]);
    expect(await bench.merge.merge()).to.equal(true);
    expect(bench.writes).to.have.length(1);
  });

  it('are said to have overwritten those of this node, at a registry that it did not know', () => {
    const bench = createBench();
    const before = write(NO_DOCUMENT, 'theirs', 9);
    bench.activePolicies.adopt(before);
    bench.show(stored(THEIRS));
    expect(bench.messages()).to.deep.equal([OVERWRITTEN]);
    bench.show(stored(write(THEIRS, 'theirs', 7)));
    expect(bench.messages()).to.deep.equal([OVERWRITTEN]);
  });

  it('stay in force while those of the registry are not valid, which is logged once for each revision', () => {
    const bench = createBench();
    bench.show(stored(THEIRS));
    for (const revision of [2, 2, 3]) bench.show(unreadable(revision));
    expect(bench.activePolicies.document()).to.equal(THEIRS);
    const refused = bench.merge.current();
    expect(refused).to.deep.include({ kind: 'no-registry', undone: true });
    bench.show(stored(THEIRS, 'one', 4));
    bench.show(stored(THEIRS, 'one', 5));
    expect(bench.log).to.deep.equal([
      ...[2, 3].map((revision) => [
        'the policies in the registry are not valid; keeping those in force',
        { revision, reason: 'not JSON' },
      ]),
      ['the policies in the registry are valid again', { version: 2 }],
    ]);
  });

  it('are not merged while it does not answer, has no valid ones, or takes no write', async () => {
    const bench = createBench();
    bench.activePolicies.adopt(MINE);
    expect(bench.merge.current()).to.deep.include({ reason: 'it has not answered yet' });
    expect(await bench.merge.merge()).to.equal(false);
    bench.show(unreadable(1));
    expect(await bench.merge.merge()).to.equal(false);
    bench.show(stored(THEIRS));
    bench.answers = false;
    expect(await bench.merge.merge()).to.equal(false);
    expect(bench.writes).to.deep.equal([]);
    bench.answers = true;
    bench.result = { kind: 'overtaken' };
    expect(await bench.merge.merge()).to.equal(false);
    expect(bench.writes).to.have.length(1);
    expect(bench.messages()).not.to.include(WROTE);
  });

  it('that do not fit into the registry are logged once, until they fit', async () => {
    const bench = createBench();
    bench.activePolicies.adopt(MINE);
    bench.show(stored(THEIRS));
    const tooLarge = 'the policies of this node do not fit into the registry';
    bench.result = { kind: 'too-large', reason: '2 MiB' };
    for (let i = 0; i < 2; i += 1) expect(await bench.merge.merge()).to.equal(false);
    expect(bench.log).to.deep.equal([[tooLarge, { reason: '2 MiB' }]]);
    bench.result = { kind: 'overtaken' };
    await bench.merge.merge();
    bench.result = { kind: 'too-large', reason: '2 MiB' };
    await bench.merge.merge();
    expect(bench.messages()).to.deep.equal([tooLarge, tooLarge]);
  });

  it('are merged by one attempt at a time, and by a tick at most twice a second', async () => {
    const bench = createBench();
    bench.merge.tick();
    bench.activePolicies.adopt(MINE);
    bench.show(stored(THEIRS));
    bench.result = { kind: 'overtaken' };
    const settle = (): Promise<void> => new Promise(setImmediate);
    const [first, second] = [bench.merge.merge(), bench.merge.merge()];
    await Promise.all([first, second]);
    expect(bench.writes).to.have.length(1);
    for (const [atMs, writes] of [
      [1_000, 2],
      [1_499, 2],
      [1_500, 3],
    ] as const) {
      bench.clock.set(atMs);
      bench.merge.tick();
      await settle();
      expect(bench.writes, String(atMs)).to.have.length(writes);
    }
    bench.show(stored(bench.writes[0]!));
    bench.clock.set(9_000);
    bench.merge.tick();
    await settle();
    expect(bench.writes).to.have.length(3);
  });

  it('are waited for until they are complete, or the time is over', async () => {
    const bench = createBench();
    expect(await bench.merge.complete(1_100)).to.deep.include({ reason: 'it has not answered yet' });
    expect(bench.clock.nowMs()).to.equal(1_100);
    bench.activePolicies.adopt(MINE);
    bench.show(stored(THEIRS));
    bench.result = { kind: 'overtaken' };
    expect(await bench.merge.complete(1_150)).to.deep.equal({
      kind: 'no-registry',
      reason: 'it lacks what this node holds',
      undone: true,
    });
    bench.result = { kind: 'written', revision: 2 };
    const complete = await bench.merge.complete(2_000);
    expect(complete).to.include({ document: bench.writes.at(-1) });
    expect(bench.clock.nowMs()).to.equal(1_150);
  });
});
