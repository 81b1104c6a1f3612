import { expect } from 'chai';
import { createBatcher, OVERDUE_MS } from '../../src/client/asking/batcher.js';
import type { Question } from '../../src/client/asking/batcher.js';
import type { Exchanged, Transport } from '../../src/client/transport/transport.js';
import { MAX_BATCH, MAX_BATCH_BYTES } from '../../src/limits/request/request.js';
import { createFakeTime } from '../support/fake-time.js';

const ADDRESS = 'http://10.0.0.1:8080';
const ANSWERED: Exchanged = { kind: 'answer', status: 200, value: {}, retryAfterMs: undefined };

interface Sent {
  readonly address: string;
  readonly texts: readonly string[];
  answer(): void;
}

function createSetup() {
  const time = createFakeTime();
  const sent: Sent[] = [];
  const completed: string[][] = [];
  const transport = {
    send: (address: string, { body }: { body?: string }) =>
      new Promise<Exchanged>((resolve) => {
        const { requests } = JSON.parse(body!) as { requests: string[] };
        sent.push({ address, texts: requests, answer: () => resolve(ANSWERED) });
      }),
  } as unknown as Transport;
  const batcher = createBatcher<Question>({ transport, time, newId: () => 'id' }, (_address, questions) =>
    completed.push(questions.map(({ text }) => JSON.parse(text) as string)),
  );
  const add = (text: string, more: Partial<Question> = {}): void => {
    const json = JSON.stringify(text);
    batcher.add(ADDRESS, {
      text: json,
      bytes: json.length,
      needsId: false,
      batchId: undefined,
      place: 0,
      giveUpAtMs: 1e9,
      isSettled: false,
      ...more,
    });
  };
  return { time, sent, completed, batcher, add };
}

describe('the batcher of the client', () => {
  it('sends what one turn of the event loop adds in one batch, at once', async () => {
    const { time, sent, completed, add } = createSetup();
    for (const text of ['a', 'b', 'c']) add(text);
    expect(sent).to.have.lengthOf(0);
    await time.pass(0);
    expect(sent.map(({ texts }) => texts)).to.deep.equal([['a', 'b', 'c']]);
    sent[0]!.answer();
    await time.pass(0);
    expect(completed).to.deep.equal([['a', 'b', 'c']]);
  });

  it('keeps two batches in flight to a node and puts later questions into the next one', async () => {
    const { time, sent, add } = createSetup();
    for (const text of ['a', 'b', 'c', 'd']) {
      add(text);
      await time.pass(0);
    }
    expect(sent.map(({ texts }) => texts)).to.deep.equal([['a'], ['b']]);
    sent[1]!.answer();
    await time.pass(0);
    expect(sent[2]!.texts).to.deep.equal(['c', 'd']);
  });

  it('sends no second batch that is smaller than the one in flight, until that is answered or overdue', async () => {
    const { time, sent, batcher, add } = createSetup();
    for (const text of ['a', 'b', 'c']) add(text);
    await time.pass(0);
    for (const text of ['d', 'e']) add(text);
    await time.pass(0);
    expect(sent.map(({ texts }) => texts)).to.deep.equal([['a', 'b', 'c']]);
    add('f');
    await time.pass(0);
    expect(sent.map(({ texts }) => texts)).to.deep.equal([
      ['a', 'b', 'c'],
      ['d', 'e', 'f'],
    ]);
    sent[1]!.answer();
    add('g');
    await time.pass(OVERDUE_MS);
    expect(sent).to.have.lengthOf(2);
    expect([...batcher.overdue()]).to.have.lengthOf(1);
    expect(sent[2]!.texts).to.deep.equal(['g']);
  });

  it('puts no more into a batch than a node takes, by number and by size', async () => {
    const { time, sent, add } = createSetup();
    for (let i = 0; i <= MAX_BATCH; i += 1) add(String(i));
    await time.pass(0);
    expect(sent.map(({ texts }) => texts.length)).to.deep.equal([MAX_BATCH, 1]);
    const large = createSetup();
    for (const text of ['a', 'b', 'c']) large.add(text.repeat(MAX_BATCH_BYTES / 2 - 40));
    await large.time.pass(0);
    expect(large.sent.map(({ texts }) => texts.length)).to.deep.equal([2, 1]);
  });

  it('does not send a question that was answered elsewhere meanwhile', async () => {
    const { time, sent, add } = createSetup();
    add('a', { isSettled: true });
    add('b');
    await time.pass(0);
    expect(sent.map(({ texts }) => texts)).to.deep.equal([['b']]);
  });

  it('reports a batch as overdue once, with the questions that wait behind it', async () => {
    const { time, batcher, add } = createSetup();
    for (const text of ['a', 'b', 'c']) {
      add(text);
      await time.pass(0);
    }
    const overdue = (): string[][] =>
      [...batcher.overdue()].map(({ questions }) => questions.map(({ text }) => JSON.parse(text) as string));
    await time.pass(OVERDUE_MS - 1);
    expect(overdue()).to.deep.equal([]);
    await time.pass(1);
    expect(overdue()).to.deep.equal([
      ['a', 'c'],
      ['b', 'c'],
    ]);
    expect(overdue()).to.deep.equal([]);
  });
});
