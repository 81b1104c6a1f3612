import { expect } from 'chai';
import { BatchingQueue, type Batch } from '../../src/lib/batching-queue.js';
import { createFakeTime } from '../support/fake-time.js';

const OVERDUE_MS = 250;

function createSetup(options: Partial<ConstructorParameters<typeof BatchingQueue<string>>[0]> = {}) {
  const time = createFakeTime();
  const sent: Batch<string>[] = [];
  const send = (batch: Batch<string>): void => void sent.push(batch);
  const queue = new BatchingQueue<string>({ clock: time, timers: time, send, maxInFlight: 2, ...options });
  const sentItems = (): (readonly string[])[] => sent.map(({ items }) => items);
  /** Adds each item in a turn of its own. */
  const addInTurns = async (...items: string[]): Promise<void> => {
    for (const item of items) {
      queue.add('a', item);
      await time.pass(0);
    }
  };
  return { time, sent, sentItems, queue, addInTurns };
}

describe('a queue that sends in batches', () => {
  it('sends what one turn of the event loop adds for a destination in one batch, at once', async () => {
    const { time, sent, queue } = createSetup();
    for (const item of ['1', '2', '3']) queue.add('a', item);
    queue.add('b', '4');
    expect(sent).to.have.lengthOf(0);
    await time.pass(0);
    expect(sent.map(({ to, items }) => [to, items])).to.deep.equal([
      ['a', ['1', '2', '3']],
      ['b', ['4']],
    ]);
    expect(queue.size()).to.equal(4);
    for (const batch of sent) expect(queue.end(batch)).to.equal(true);
    expect(queue.end(sent[0]!)).to.equal(false);
    expect([queue.size(), ...queue.destinations()]).to.deep.equal([0]);
  });

  it('keeps two batches in flight to a destination, and puts later items into the next one', async () => {
    const { sent, sentItems, queue, addInTurns } = createSetup();
    await addInTurns('1', '2', '3', '4');
    expect(sentItems()).to.deep.equal([['1'], ['2']]);
    queue.end(sent[1]!);
    expect(sentItems()[2]).to.deep.equal(['3', '4']);
  });

  it('sends no second batch that is smaller than the one in flight, until that is answered or overdue', async () => {
    const { time, sent, sentItems, queue } = createSetup({ coalesces: true });
    const add = async (...items: string[]): Promise<void> => {
      for (const item of items) queue.add('a', item);
      await time.pass(0);
    };
    await add('1', '2', '3');
    await add('4', '5');
    expect(sent).to.have.lengthOf(1);
    await add('6');
    expect(sentItems()[1]).to.deep.equal(['4', '5', '6']);
    queue.end(sent[1]!);
    await add('7');
    await time.pass(OVERDUE_MS);
    expect(sent).to.have.lengthOf(2);
    expect([...queue.overdue(OVERDUE_MS)]).to.have.lengthOf(1);
    expect(sentItems()[2]).to.deep.equal(['7']);
  });

  it('bounds a batch by number and by size, except that a larger item goes alone', async () => {
    const byNumber = createSetup({ maxItems: 2 });
    for (const item of ['1', '2', '3']) byNumber.queue.add('a', item);
    await byNumber.time.pass(0);
    expect(byNumber.sentItems()).to.deep.equal([['1', '2'], ['3']]);
    const bySize = createSetup({ maxSize: 5, sizeOf: (item) => item.length, maxInFlight: 3 });
    for (const item of ['11', '222', '333333', '4']) bySize.queue.add('a', item);
    await bySize.time.pass(0);
    expect(bySize.sentItems()).to.deep.equal([['11', '222'], ['333333'], ['4']]);
  });

  it('refuses an item when too many wait for its destination', async () => {
    const { time, queue, sent } = createSetup({ maxWaiting: 2 });
    expect(['1', '2', '3'].map((item) => queue.add('a', item))).to.deep.equal([true, true, false]);
    expect(queue.add('b', '4')).to.equal(true);
    await time.pass(0);
    // Those under way wait for no turn.
    expect(queue.add('a', '5')).to.equal(true);
    expect(sent.map(({ items }) => items)).to.deep.equal([['1', '2'], ['4']]);
  });

  it('drops an item that needs no sending when its turn comes', async () => {
    const over = new Set<string>();
    const { time, sentItems, queue } = createSetup({ isOver: (item) => over.has(item) });
    for (const item of ['1', '2', '3']) queue.add('a', item);
    queue.add('b', '4');
    over.add('2').add('4');
    await time.pass(0);
    expect(sentItems()).to.deep.equal([['1', '3']]);
    expect([...queue.destinations()]).to.deep.equal(['a']);
  });

  it('reports a batch as overdue once, and what waits behind it', async () => {
    const { time, queue, addInTurns } = createSetup();
    await addInTurns('1', '2', '3');
    const overdue = (): string[][] =>
      [...queue.overdue(OVERDUE_MS)].map(({ to, items }) => [...items, ...queue.waitingFor(to)]);
    await time.pass(OVERDUE_MS - 1);
    expect(overdue()).to.deep.equal([]);
    await time.pass(1);
    expect(overdue()).to.deep.equal([
      ['1', '3'],
      ['2', '3'],
    ]);
    expect(overdue()).to.deep.equal([]);
  });

  it('keeps a lazy item for the next one or for a flush', async () => {
    const { time, sentItems, queue } = createSetup();
    queue.addLazily('a', '1');
    queue.addLazily('b', '2');
    await time.pass(1_000);
    expect(sentItems()).to.deep.equal([]);
    queue.add('a', '3');
    await time.pass(0);
    queue.flush('b');
    expect(sentItems()).to.deep.equal([['1', '3'], ['2']]);
  });

  it('gives back what waits, of one destination or all', async () => {
    const { sent, queue, addInTurns } = createSetup();
    await addInTurns('1', '2', '3', '4', '5');
    expect(queue.withdraw('a', (item) => item !== '4')).to.deep.equal(['3', '5']);
    expect(queue.withdraw('b')).to.deep.equal([]);
    expect(queue.inFlightTo('a')).to.deep.equal(sent);
    expect(queue.inFlightTo('b')).to.deep.equal([]);
    expect(queue.clear()).to.deep.equal(['1', '2', '4']);
    expect(queue.size()).to.equal(0);
    expect(queue.end(sent[0]!)).to.equal(false);
  });

  it('sends nothing that was added before it was cleared', async () => {
    const { time, sentItems, queue } = createSetup();
    queue.add('a', '1');
    queue.clear();
    queue.add('a', '2');
    await time.pass(0);
    expect(sentItems()).to.deep.equal([['2']]);
  });
});
