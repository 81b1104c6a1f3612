import { expect } from 'chai';
import type { MemberRecord, PeerMessage, PeerReply } from '../../src/protocol/messages.js';
import {
  RegistryHealth,
  type Granted,
  type Registration,
  type Registry,
  type Renewed,
} from '../../src/membership/registry.js';
import { RegistryLease } from '../../src/membership/registry-lease.js';
import { RegistryMembership } from '../../src/membership/registry-membership.js';
import type { Timers } from '../../src/lib/system.js';
import { NO_CLIENTS } from '../support/wire.js';
import { Acknowledger } from '../../src/replication/acknowledger.js';
import { createFakeClock, type FakeClock } from '../support/fake-clock.js';
import { createWorld } from '../sim/world.js';

const TTL_MS = 2_000;
const SUSPECT_MS = 1_000;
const nothing = (): undefined => undefined;

const memberOf = (id: string, incarnation: number, state: Registration['state'] = 'active'): Registration => ({
  id,
  incarnation,
  state,
  version: '1',
  url: '',
});
const recordOf = (id: string, incarnation: number, beat: number): MemberRecord => ({
  ...memberOf(id, incarnation),
  state: 'active',
  beat,
  silentMs: 0,
  suspected: false,
});

/** Lets promises that are resolved by now run on. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function strictMembership(clock: FakeClock, self = 'a:1'): RegistryMembership {
  return new RegistryMembership(clock, {
    self,
    version: '1',
    suspectAfterMs: SUSPECT_MS,
    strict: true,
    onRingChange: nothing,
    onConcurrentLeave: nothing,
    onDeregistered: nothing,
  });
}

/** @param onTimer called with what the lease does again and again */
function leaseAt(clock: FakeClock, registry: Registry, onTimer: (action: () => void) => void = nothing): RegistryLease {
  const timers = {
    every(_ms: number, action: () => void) {
      onTimer(action);
      return nothing;
    },
  } as unknown as Timers;
  const log = { info: nothing, warn: nothing };
  const health = new RegistryHealth(clock, log, TTL_MS / 5);
  return new RegistryLease({
    clock,
    timers,
    registry,
    health,
    onRenewed: nothing,
    onExpired: nothing,
    ttlMs: TTL_MS,
    renewEveryMs: TTL_MS / 5,
    timeoutMs: TTL_MS / 5,
  });
}

describe('the lease of a strict member', () => {
  it('counts from when it was asked for, however late it is granted', async () => {
    const clock = createFakeClock(10_000);
    let answer: (granted: Granted) => void = nothing;
    const registry = { grant: () => new Promise<Granted>((resolve) => (answer = resolve)) } as unknown as Registry;
    const lease = leaseAt(clock, registry);
    const acquiring = lease.acquire();
    clock.advance(300);
    answer({ kind: 'granted', leaseId: 'lease', ttlMs: TTL_MS });
    await acquiring;
    expect(lease.holdsUntilMs()).to.equal(10_000 + 0.95 * TTL_MS);
  });

  it('counts from when its renewal was sent, however late the answer comes', async () => {
    const clock = createFakeClock(10_000);
    let tick: () => void = nothing;
    let answer: (renewed: Renewed) => void = nothing;
    const registry = {
      grant: () => Promise.resolve({ kind: 'granted', leaseId: 'lease', ttlMs: TTL_MS }),
      renew: () => new Promise<Renewed>((resolve) => (answer = resolve)),
    } as unknown as Registry;
    const lease = leaseAt(clock, registry, (action) => (tick = action));
    await lease.acquire();
    expect(lease.holdsUntilMs()).to.equal(10_000 + 0.95 * TTL_MS);
    clock.advance(400);
    tick();
    clock.advance(300);
    answer({ kind: 'renewed', ttlMs: TTL_MS, revision: 1 });
    await settled();
    expect(lease.holdsUntilMs()).to.equal(10_400 + 0.95 * TTL_MS);
  });
});

describe('a strict member', () => {
  it('answers not-yet to an earlier incarnation of a member that was replaced under its id', async () => {
    const world = createWorld(31, { etcdRate: 1 });
    const options = { memberTtlMs: TTL_MS, strict: true, onUnavailable: 'closed' } as const;
    const ids = ['a:1', 'b:1', 'c:1'];
    await world.until(Promise.all(ids.map((id) => world.spawn(id, options).cluster.start())), 10_000);
    await world.run(300);
    const replaced = world.node('a:1').cluster.membership.self();
    world.kill('a:1');
    await world.run(TTL_MS + 500);
    await world.until(world.spawn('a:1', options).cluster.start(), 10_000);
    await world.run(300);
    const replicate = async (from: MemberRecord): Promise<string> => {
      const body: PeerMessage = { kind: 'replicate', clients: NO_CLIENTS };
      return (await world.node('b:1').cluster.receive({ sender: { from, view: '', policies: '' }, body })).body.kind;
    };
    expect(await replicate(replaced)).to.equal('not-yet');
    expect(await replicate(world.node('a:1').cluster.membership.self())).to.equal('kept');
  });

  it('does not take another registry for the one that it knew, though its revisions are lower', () => {
    const membership = strictMembership(createFakeClock(10_000));
    membership.adopt({ registry: 'old', revision: 50, entries: [memberOf('a:1', 1), memberOf('b:1', 7)] });
    expect(membership.isNew({ registry: 'old', revision: 50 })).to.equal(false);
    expect(membership.isNew({ registry: 'new', revision: 3 })).to.equal(true);
    membership.adopt({ registry: 'new', revision: 3, entries: [memberOf('a:1', 1)] });
    expect(membership.view()).to.equal('new.3');
    expect(membership.stateOf('b:1')).to.equal(undefined);
    // A peer that still follows the old one is not ahead.
    expect(membership.isBehind('old.60')).to.equal(false);
    expect(membership.isBehind('new.4')).to.equal(true);
  });

  it('does not take an earlier incarnation for a sign of life of the present one', () => {
    const clock = createFakeClock(1_000);
    const membership = strictMembership(clock);
    membership.adopt({ registry: 'r', revision: 5, entries: [memberOf('a:1', 1), memberOf('b:1', 4)] });
    membership.messageSent('b:1');
    clock.advance(0.8 * SUSPECT_MS);
    expect(membership.isDown('b:1')).to.equal(true);
    membership.messageReceived(recordOf('b:1', 3, 900), 'r.5');
    membership.learn([recordOf('b:1', 3, 901)]);
    expect(membership.isDown('b:1')).to.equal(true);
    membership.messageReceived(recordOf('b:1', 4, 7), 'r.5');
    expect(membership.isDown('b:1')).to.equal(false);
  });

  for (const [name, lose] of [
    ['its lease expired', (parts: { mayDecide: boolean }) => (parts.mayDecide = false)],
    ['it began another incarnation', (_: object, membership: RegistryMembership) => membership.reincarnate()],
  ] as const) {
    it(`acknowledges nothing if ${name} while it waited for a replica`, async () => {
      const clock = createFakeClock(1_000);
      const membership = strictMembership(clock);
      membership.adopt({ registry: 'r', revision: 5, entries: [memberOf('a:1', 1), memberOf('b:1', 4)] });
      membership.registered(1, 5);
      membership.declare('active');
      const parts = { mayDecide: true };
      let answer: (asked: PeerReply) => void = nothing;
      const acknowledger = new Acknowledger({
        clock,
        timers: { every: () => nothing, soon: (action) => action(), sleep: () => Promise.resolve() },
        membership,
        copies: {
          table: { peek: () => undefined },
          createBatch: () => ({ clients: 0, take: () => NO_CLIENTS }),
        } as never,
        ask: () => new Promise<PeerReply>((resolve) => (answer = resolve)),
        mayDecide: () => parts.mayDecide,
        replicas: 1,
        suspectAfterMs: SUSPECT_MS,
        giveUpAfterMs: 1.5 * SUSPECT_MS,
      });
      const acknowledged = acknowledger.acknowledge('alice');
      await settled();
      lose(parts, membership);
      answer({ kind: 'answer', body: { kind: 'kept' } });
      expect(await acknowledged).to.equal(false);
    });
  }
});
