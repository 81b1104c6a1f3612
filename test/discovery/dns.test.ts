import { expect } from 'chai';
import type { Log } from '../../src/lib/system.js';
import { DnsDiscovery, type DnsAddress } from '../../src/membership/discovery/dns.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';

type Resolve = (name: string) => Promise<readonly DnsAddress[]>;

const v4 = (address: string): DnsAddress => ({ address, family: 4 });
const v6 = (address: string): DnsAddress => ({ address, family: 6 });

interface Setup {
  readonly seeds: () => Promise<readonly string[]>;
  readonly clock: FakeClock;
  readonly asked: string[];
  readonly warnings: string[];
}

function create(resolve: Resolve, options = {}): Setup {
  const clock = createFakeClock();
  const asked: string[] = [];
  const warnings: string[] = [];
  const log: Log = { info: () => undefined, warn: (_fields, message) => void warnings.push(message) };
  const counting: Resolve = (name) => {
    asked.push(name);
    return resolve(name);
  };
  const discovery = new DnsDiscovery('tokenring.local:9080', { clock, log, resolve: counting, ...options });
  return { seeds: () => discovery.seeds(), clock, asked, warnings };
}

describe('DNS discovery', () => {
  it('returns every address of the name once, IPv6 in brackets, in a fixed order', async () => {
    const { seeds, asked } = create(() =>
      Promise.resolve([v6('fd00::2'), v4('10.0.0.9'), v4('10.0.0.2'), v4('10.0.0.9'), v6('fe80::1%eth0')]),
    );
    expect(await seeds()).to.deep.equal(['10.0.0.2:9080', '10.0.0.9:9080', '[fd00::2]:9080']);
    expect(asked).to.deep.equal(['tokenring.local']);
  });

  it('resolves again only after a while, even after a failure, and once for all callers', async () => {
    let fails = false;
    const { seeds, clock, asked } = create(() =>
      fails ? Promise.reject(new Error('ENOTFOUND')) : Promise.resolve([v4('10.0.0.1')]),
    );
    await Promise.all([seeds(), seeds(), seeds()]);
    clock.advance(1_999);
    await seeds();
    expect(asked).to.have.length(1);
    fails = true;
    clock.advance(1);
    await seeds();
    await seeds();
    expect(asked).to.have.length(2);
    clock.advance(2_000);
    await seeds();
    expect(asked).to.have.length(3);
  });

  it('follows changes of the name', async () => {
    let addresses = [v4('10.0.0.1')];
    const { seeds, clock } = create(() => Promise.resolve(addresses));
    await seeds();
    addresses = [v4('10.0.0.1'), v4('10.0.0.2')];
    clock.advance(2_000);
    expect(await seeds()).to.deep.equal(['10.0.0.1:9080', '10.0.0.2:9080']);
    addresses = [];
    clock.advance(2_000);
    expect(await seeds()).to.deep.equal([]);
  });

  it('keeps the last good answer while the resolver fails, and logs the first failure', async () => {
    const answers = [true, false, false, true, false];
    const { seeds, clock, warnings } = create(() =>
      answers.shift() ? Promise.resolve([v4('10.0.0.1')]) : Promise.reject(new Error('EAI_AGAIN')),
    );
    for (let i = 0; i < 5; i += 1) {
      expect(await seeds()).to.deep.equal(['10.0.0.1:9080']);
      clock.advance(2_000);
    }
    expect(warnings).to.have.length(2);
  });

  it('returns no peers, without an error, if the name never resolved or the resolver throws', async () => {
    expect(await create(() => Promise.reject(new Error('ENOTFOUND'))).seeds()).to.deep.equal([]);
    const throwing = create(() => {
      throw new Error('oh');
    });
    expect(await throwing.seeds()).to.deep.equal([]);
  });

  it('does not wait for a resolver that hangs, and uses its answer once it comes', async () => {
    let answer: (addresses: DnsAddress[]) => void = () => undefined;
    const hanging = new Promise<DnsAddress[]>((resolve) => (answer = resolve));
    const { seeds, clock, asked } = create(() => hanging, { timeoutMs: 20 });
    expect(await seeds()).to.deep.equal([]);
    clock.advance(10_000);
    expect(await seeds()).to.deep.equal([]);
    expect(asked, 'one question at a time').to.have.length(1);
    answer([v4('10.0.0.1')]);
    expect(await seeds()).to.deep.equal(['10.0.0.1:9080']);
  });

  it('reads the hosts file of the machine', async () => {
    const log: Log = { info: () => undefined, warn: () => undefined };
    const discovery = new DnsDiscovery('localhost:9080', { clock: createFakeClock(), log });
    const seeds = await discovery.seeds();
    expect(seeds.includes('127.0.0.1:9080') || seeds.includes('[::1]:9080')).to.equal(true);
  });
});
