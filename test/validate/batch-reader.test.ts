import { expect } from 'chai';
import { finish } from '../../src/lib/turns.js';
import fc from 'fast-check';
import { WITHOUT_POLICIES, type Policies } from '../../src/policy/active-policies.js';
import type { CheckBatch } from '../../src/limits/decide/check-batch.js';
import type { Check } from '../../src/limits/decide/check.js';
import { TokenringError } from '../../src/lib/error.js';
import { BatchReader } from '../../src/server/validate/batch-reader.js';
import { parseJson } from '../../src/server/validate/json.js';
import { readBatch, readCheck } from '../../src/server/validate/request.js';

/** The checks and the errors of a batch, as plain values. */
type Items = (Check | { readonly error: unknown })[];

const plain = (error: unknown): unknown => JSON.parse(JSON.stringify(error));

function itemsOf(batch: CheckBatch): Items {
  return batch.items.map(({ error, check }) =>
    error === undefined ? { ...check, reservation: check.reservation && 'any' } : { error: plain(error) },
  );
}

/** Reads a body step by step. @throws TokenringError for a body that is refused */
function readAll(reader: BatchReader, body: Buffer): CheckBatch {
  const unread = reader.begin(body);
  finish(unread.reading());
  expect(unread.batch.size).to.be.at.most(unread.maxItems);
  return unread.batch;
}

/** @returns `undefined` for a body that is refused */
function outcomeOf(reader: BatchReader, body: Buffer): Items | undefined {
  try {
    return itemsOf(readAll(reader, body));
  } catch (error) {
    if (error instanceof TokenringError) return undefined;
    throw error;
  }
}

function countSteps(reader: BatchReader, body: Buffer): number {
  const reading = reader.begin(body).reading();
  let steps = 1;
  while (!reading.next().done) steps += 1;
  return steps;
}

/** The general way. @returns `undefined` for a body that is refused */
function readGenerally(body: Buffer, policies: Policies): Items | undefined {
  let read: ReturnType<typeof readBatch>;
  try {
    read = readBatch(parseJson(body));
  } catch (error) {
    if (error instanceof TokenringError) return undefined;
    throw error;
  }
  return read.requests.map((item, place) => {
    const itemId = read.requestId === undefined ? undefined : `${read.requestId}#${place}`;
    try {
      const check = readCheck(item, policies, itemId);
      return { ...check, reservation: check.reservation && 'any' };
    } catch (error) {
      if (error instanceof TokenringError) return { error: plain(error) };
      throw error;
    }
  });
}

const item = (clientId: string, more: object = { limit: 10, window: '1m' }): string =>
  JSON.stringify({ clientId, ...more });
const bodyOf = (...items: string[]): Buffer => Buffer.from(`{"requests":[${items.join(',')}]}`);

const space = fc.constantFrom('', '', '', ' ', '\n\t ', '\r\n');
const id = fc.oneof(
  { weight: 6, arbitrary: fc.stringMatching(/^[ !#-[\]-~]{1,40}$/).map((text) => JSON.stringify(text)) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 300 }).map((text) => JSON.stringify(text)) },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '""',
      '"\\u0061"',
      '"a\\"b"',
      '"a\tb"',
      '"é"',
      '"\\ud800"',
      '"__proto__"',
      '"{"',
      '"]"',
      `"${'x'.repeat(256)}"`,
      `"${'x'.repeat(257)}"`,
      '7',
      'null',
    ),
  },
);
const ending = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.constantFrom(
      ',"limit":10,"window":"1m"',
      ',"limit":100,"window":60000',
      ', "limit": 10, "window": "1m"',
      ',"limit":5,"windowMs":1000,"burst":9,"cost":2',
      ',"limit":10,"window":"1m","peek":true',
      ',"limit":10,"window":"1m","durability":"replicated"',
      ',"limits":[{"limit":1,"window":1},{"limit":5,"window":"1s","algorithm":"sliding-window"}]',
      ',"limit":0,"window":"1d"',
      ',"limit":10,"window":"1m","scope":"a"',
      ',"limit":10,"window":"1m","scope":"b"',
    ),
  },
  {
    weight: 8,
    arbitrary: fc.constantFrom(
      '',
      ',',
      ',"limit":10',
      ',"limit":10,"window":"1m","clientId":"b"',
      ',"limit":10,"window":"1m","\\u0063lientId":"b"',
      ',"limit":10,"limit":11,"window":"1m"',
      ',"limit":1e9,"window":"1m"',
      ',"limit":010,"window":"1m"',
      ',"limit":10,"window":"banana"',
      ',"limit":10,"window":"1m","requestId":"r"',
      ',"limit":10,"window":"1m","requestId":"another"',
      ',"limit":10,"window":"1m","requestId": "r"',
      ',"limit":10,"window":"1m","requestId":""',
      ',"limit":10,"window":"1m","requestId":7',
      ',"limit":10,"window":"1m","requestId":"\\u0061"',
      ',"limit":10,"window":"1m","requestId":"r","requestId":"s"',
      ',"limit":10,"window":"1m","requestId":"r","x\\"requestId":"r"',
      ',"limit":10,"window":"1m","requestId":"r","x\\"requestId":"s"',
      ',"limit":10,"window":"1m","reserve":true,"requestId":"r"',
      `,"limit":10,"window":"1m","requestId":"${'x'.repeat(128)}"`,
      `,"limit":10,"window":"1m","requestId":"${'x'.repeat(129)}"`,
      ',"limit":10,"window":"1m","reserve":true',
      ',"policy":"gold"',
      ',"policy":"none"',
      ',"scope":"a","policy":"gold"',
      ',"limit":10,"window":"1m","scope":""',
      ',"limit":10,"window":"1m","scope":"a","requestId":"r"',
      ',"limit":10,"window":"1m","extra":{"a":[1,"}"]}',
      ',"limit":10,"window":"1m"}',
      ',"limit":10,"window":"1m',
      ',"limit":10,"window":"\xff"',
    ),
  },
);
const anyItem = fc.oneof(
  {
    weight: 20,
    arbitrary: fc
      .tuple(space, space, space, id, space, ending, space)
      .map(([a, b, c, name, d, end, e]) => `${a}{${b}"clientId"${c}:${d}${name}${end}}${e}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('', '{}', '7', 'null', '[]', '{"limit":10,"window":"1m","clientId":"a"}', '{"clientId"'),
  },
);
const bodies = fc
  .tuple(
    fc.constantFrom(
      '{"requests":[',
      '{ "requests" : [ ',
      '{"requestId":"b","requests":[',
      '{"requestId":"another","requests":[',
      ' { "requestId" : "b" , "requests" :[',
      '{"requestId":"","requests":[',
      '{"requestId":7,"requests":[',
      '{"requestId":"\\u0062","requests":[',
      '{"requestId":"b" "requests":[',
      `{"requestId":"${'x'.repeat(124)}","requests":[`,
      `{"requestId":"${'x'.repeat(125)}","requests":[`,
      '{"request":[',
      '[',
      '{"requests":',
    ),
    fc.oneof(
      fc.array(anyItem, { maxLength: 12 }),
      // Mostly equal items, as callers send them.
      fc
        .tuple(ending, fc.array(id, { maxLength: 20 }))
        .map(([end, ids]) => ids.map((one) => `{"clientId":${one}${end}}`)),
    ),
    fc.constantFrom(
      ']}',
      ']}',
      ']}',
      ' ] } ',
      ']',
      ']}}',
      ']},',
      '],"more":1}',
      ']}\0',
      '],"requestId":"z"}',
      '] , "requestId" : "z]" } ',
      '],"requestId":"\\u0061"}',
      '],"requestId":""}',
    ),
  )
  .map(([begin, items, end]) => Buffer.from(`${begin}${items.join(',')}${end}`, 'latin1'));

const GOLD = [{ algorithm: 'token-bucket', limit: 3, windowMs: 1_000, capacity: 3, policy: 'gold' }] as const;
const policies = {
  isEmpty: () => false,
  listsClients: () => false,
  listed: () => undefined,
  resolve: (clientId: string, name: string | undefined) =>
    name === 'gold' ? { policy: { name: `gold for ${clientId}` }, rules: GOLD } : undefined,
} as unknown as Policies;

describe('the reader of batches', () => {
  it('reads what the general way reads, whatever the bytes and whatever came before', () => {
    const reader = new BatchReader(policies);
    let recognised = 0;
    fc.assert(
      fc.property(bodies, (body) => {
        expect(outcomeOf(reader, body), body.toString('latin1')).to.deep.equal(readGenerally(body, policies));
        if (outcomeOf(reader, body) !== undefined && readAll(reader, body).items.some(({ isObject }) => !isObject))
          recognised += 1;
      }),
      { numRuns: 5_000 },
    );
    expect(recognised, 'bodies with a known shape').to.be.above(100);
  });

  it('reads what the general way reads when any byte of a usual batch is changed, left out, or repeated', () => {
    const reader = new BatchReader(policies);
    const [one, other] = ['r1', 'r2'].map((requestId) => item('dave', { limit: 10, window: '1m', requestId }));
    const usual = bodyOf(item('alice'), item('bob'), item('carol', { limit: 5, window: '1s', cost: 2 }), one!, other!);
    const edit = fc.tuple(fc.nat(usual.length - 1), fc.nat(2), fc.nat(255));
    fc.assert(
      fc.property(edit, ([at, kind, byte]) => {
        expect(outcomeOf(reader, usual)).not.to.equal(undefined);
        const middle = kind === 0 ? [byte] : kind === 1 ? [] : [usual[at]!, usual[at]!];
        const body = Buffer.concat([usual.subarray(0, at), Buffer.from(middle), usual.subarray(at + 1)]);
        expect(outcomeOf(reader, body)).to.deep.equal(readGenerally(body, policies));
      }),
      { numRuns: 3_000 },
    );
  });

  it('parses the first of equal items only, and makes no object of the others', () => {
    const reader = new BatchReader(WITHOUT_POLICIES);
    const items = Array.from({ length: 1_000 }, (_, i) => item(`client ${i}`));
    const batch = readAll(reader, bodyOf(...items));
    expect(batch.size).to.equal(1_000);
    expect(items.filter((_, index) => batch.items[index]!.isObject)).to.deep.equal([items[0]]);
    expect(readAll(reader, bodyOf(items[7]!)).items[0]!.isObject).to.equal(false);
  });

  it('makes no object of items that differ in their request ids, as those of the SDK', () => {
    const reader = new BatchReader(WITHOUT_POLICIES);
    const items = Array.from({ length: 100 }, (_, i) => {
      return item(`client ${i}`, { limit: 10, window: '1m', requestId: `id-${i}` });
    });
    const body = bodyOf(...items);
    const batch = readAll(reader, body);
    expect(items.filter((_, index) => batch.items[index]!.isObject)).to.deep.equal([items[0]]);
    expect(batch.items.map(({ requestId }) => requestId)).to.deep.equal(items.map((_, i) => `id-${i}`));
    expect(itemsOf(batch)).to.deep.equal(readGenerally(body, WITHOUT_POLICIES));
  });

  it('takes a step for each new item, and one for all known ones', () => {
    const reader = new BatchReader(WITHOUT_POLICIES);
    const different = bodyOf(...Array.from({ length: 5 }, (_, i) => item('a', { limit: i + 1, window: '1m' })));
    expect(countSteps(reader, different)).to.equal(5);
    expect(countSteps(reader, different)).to.equal(1);
    expect(countSteps(reader, bodyOf(item('a'), item('b'), item('c')))).to.equal(2);
  });

  it('reads each item in the general way when a client may be on a list, even if a list comes in the middle', () => {
    let listsClients = false;
    const reader = new BatchReader({ ...WITHOUT_POLICIES, listsClients: () => listsClients });
    const body = bodyOf(item('a', { limit: 9, window: '9s' }), item('b'), item('c'));
    readAll(reader, bodyOf(item('a')));
    const unread = reader.begin(body);
    const reading = unread.reading();
    expect(reading.next().done).to.equal(false);
    listsClients = true;
    finish(reading);
    expect(unread.batch.items.every(({ isObject }) => isObject)).to.equal(true);
    expect(countSteps(reader, body)).to.equal(3);
  });

  it('refuses what is no batch, and takes any white space', () => {
    const reader = new BatchReader(WITHOUT_POLICIES);
    for (const text of ['', '[]', '{}', '{"requests":[]}', '{"requests":[1,]}', '{"requests":[,1]}', '{"requests":[1}'])
      expect(outcomeOf(reader, Buffer.from(text)), text).to.equal(undefined);
    for (const text of ['{"requests":[1],"x":1}', '{"requests":[1]}}', '{"requests":[{]}', '{"x":1,"requests":[1]}'])
      expect(outcomeOf(reader, Buffer.from(text)), text).to.equal(undefined);
    const spaced = Buffer.from(' { "requests" : [ 1 , [2,{}] ,"a,]}" ] } ');
    expect(outcomeOf(reader, spaced)).to.deep.equal(readGenerally(spaced, WITHOUT_POLICIES));
    // More values than in a body that is parsed as a whole.
    const large = Buffer.from(`{"requests":[${Array(1_000).fill(item('a')).join()}],"requestId":"b"}`);
    const { size, batchId } = readAll(reader, large);
    expect({ size, batchId }).to.deep.equal({ size: 1_000, batchId: 'b' });
  });

  it('has at most 256 values in each item, so that none takes long to parse', () => {
    const reader = new BatchReader(WITHOUT_POLICIES);
    const expectedOf = (count: number): unknown => {
      const body = Buffer.from(`{"requests":[1,[${Array(count).fill('{}').join()}],2]}`);
      const { items } = readAll(reader, body);
      expect(items).to.have.lengthOf(3);
      return items[1]!.error!.expected;
    };
    expect(expectedOf(128)).not.to.equal('at most 256 values');
    expect(expectedOf(129)).to.equal('at most 256 values');
    const names = Array.from({ length: 5_000 }, (_, i) => `"${i}":0`).join();
    for (const text of [`{${names}}`, `{"requests":[1],${names}}`])
      expect(() => readAll(reader, Buffer.from(text)))
        .to.throw(TokenringError)
        .with.property('expected', 'at most 4096 values');
    for (const item of ['1', '{"clientId":"a","limit":1,"window":1}'])
      expect(() => readAll(reader, Buffer.from(`{"requests":[${Array(1_001).fill(item).join()}]}`)))
        .to.throw(TokenringError)
        .with.property('field', 'requests');
  });

  it('is spared the items beyond a thousand: looking at each of them takes long', () => {
    const requests: unknown[] = Array.from({ length: 2_000 }, () => ({}));
    Object.defineProperty(requests, 1_500, {
      get() {
        throw new Error('looked at');
      },
    });
    expect(() => readBatch({ requests }))
      .to.throw(TokenringError)
      .with.property('field', 'requests');
  });
});
