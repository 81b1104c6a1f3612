import { expect } from 'chai';
import fc from 'fast-check';
import { WITHOUT_POLICIES } from '../../src/policy/active-policies.js';
import { CommandReader } from '../../src/server/resp/command-reader.js';
import { ErrorText } from '../../src/server/resp/value.js';
import { command } from './wire.js';

/** Everything that a reader finds in some bytes, as plain values. */
function readAll(reader: () => CommandReader, bytes: Buffer): unknown[] {
  const found: unknown[] = [];
  for (let at = 0; at < bytes.length;) {
    const one = reader();
    const read = one.read(bytes, at);
    if (read.kind === 'incomplete' || read.kind === 'broken') return [...found, read.kind];
    if (read.kind === 'checks') {
      for (const { index, error, check } of read.batch.items) {
        const reply = read.replies[index]!;
        if (reply instanceof ErrorText) found.push(reply.text);
        else if (error !== undefined) found.push(error.message);
        else found.push({ ...check, reservation: undefined, reply: reply.kind });
      }
    } else found.push(read);
    at = one.endAt;
  }
  return found;
}

describe('the reader of checks', () => {
  it('reads all checks of a chunk as one batch, and another command by itself', () => {
    const allow = command('TR.ALLOW', 'a', 'LIMIT', 5, 'WINDOW', '1m');
    const throttle = command('cl.throttle', 'b', 1, 2, 3);
    const bytes = Buffer.concat([allow, throttle, allow, command('PING'), allow]);
    const reader = new CommandReader(WITHOUT_POLICIES);
    const first = reader.read(bytes, 0);
    expect(first.kind === 'checks' && first.batch.size).to.equal(3);
    expect(reader.read(bytes, reader.endAt)).to.deep.include({ kind: 'command', name: 'PING', args: ['PING'] });
    const last = reader.read(bytes, reader.endAt);
    expect(last.kind === 'checks' && last.batch.size).to.equal(1);
    expect(reader.endAt).to.equal(bytes.length);
  });

  it('recognises what it knows, and means by it what the general way reads, whatever came before', () => {
    const id = fc.oneof(
      fc.constantFrom('a', 'bob', 'ünïcode', '', 'x'.repeat(256), 'x'.repeat(257), '\r\n', '$1', 'a b'),
      fc.string({ maxLength: 10 }),
    );
    const rule = fc.constantFrom(
      ['LIMIT', '5', 'WINDOW', '1m'],
      ['limit', '5', 'window', '1m'],
      ['WINDOW', '60000', 'LIMIT', '5', 'COST', '2'],
      ['LIMIT', '5', 'WINDOW', '1m', 'PEEK'],
      ['LIMIT', '5', 'WINDOW', '1m', 'ID', 'r'],
      ['LIMIT', '5', 'WINDOW', '1m', 'RESERVE'],
      ['LIMIT', '5', 'WINDOW', '1m', 'ALGORITHM', 'sliding-window'],
      ['LIMIT', '5'],
      ['LIMIT', '5', 'WINDOW', '1m', 'LIMIT', '5'],
      ['POLICY', 'nobody'],
      ['NONSENSE'],
    );
    const cell = fc.constantFrom(
      ['1', '2', '3'],
      ['1', '2', '3', '0'],
      ['1', '2'],
      ['x', '2', '3'],
      ['0', '1', '1', '9'],
    );
    const one = fc.oneof(
      fc.tuple(fc.constantFrom('TR.ALLOW', 'tr.allow'), id, rule),
      fc.tuple(fc.constantFrom('CL.THROTTLE', 'THROTTLE'), id, cell),
    );
    const asked = one.map(([name, client, rest]) => command(name, client, ...rest));
    const bytes = fc
      .array(fc.oneof({ weight: 9, arbitrary: asked }, { weight: 1, arbitrary: fc.constant(command('PING')) }), {
        minLength: 1,
        maxLength: 30,
      })
      .map((commands) => Buffer.concat(commands));
    const experienced = new CommandReader(WITHOUT_POLICIES);
    fc.assert(
      fc.property(bytes, (chunk) => {
        const general = readAll(() => new CommandReader({ ...WITHOUT_POLICIES, listsClients: () => true }), chunk);
        expect(readAll(() => experienced, chunk)).to.deep.equal(general);
      }),
      { numRuns: 2_000, seed: 18 },
    );
  });

  it('takes a check that is cut anywhere for one that is not there yet', () => {
    const whole = command('TR.ALLOW', 'alice', 'LIMIT', 5, 'WINDOW', '1m');
    const reader = new CommandReader(WITHOUT_POLICIES);
    reader.read(whole, 0);
    for (let length = 1; length < whole.length; length += 1)
      expect(reader.read(whole.subarray(0, length), 0).kind).to.equal('incomplete');
  });

  it('refuses bytes that are no UTF-8, so that no two clients become one', () => {
    const reader = new CommandReader(WITHOUT_POLICIES);
    const read = reader.read(command('TR.ALLOW', Buffer.from([0xff]), 'LIMIT', 5, 'WINDOW', '1m'), 0);
    expect(read.kind === 'checks' && read.batch.items[0]!.error!.message).to.include('use UTF-8');
    expect(reader.read(command('PING', Buffer.from([0xff])), 0).kind).to.equal('refused');
  });
});
