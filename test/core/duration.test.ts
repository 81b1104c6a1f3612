import { expect } from 'chai';
import fc from 'fast-check';
import { formatDuration, parseDuration } from '../../src/limits/duration.js';
import { MAX_WINDOW_MS } from '../../src/limits/bucket/rule.js';
import { windowsMs } from '../support/histories.js';

describe('duration', () => {
  const read: [text: string, ms: number][] = [
    ['1ms', 1],
    ['250ms', 250],
    ['10s', 10_000],
    ['1m', 60_000],
    ['90m', 5_400_000],
    ['1h', 3_600_000],
    ['1d', 86_400_000],
    ['366d', MAX_WINDOW_MS],
    ['31622400000ms', MAX_WINDOW_MS],
    ['007s', 7_000],
  ];
  for (const [text, ms] of read) {
    it(`reads ${text} as ${ms} ms`, () => {
      expect(parseDuration(text)).to.equal(ms);
    });
  }

  it('is nothing but a whole number and a unit, of 1 ms to 366 days', () => {
    const refused = [
      '',
      '1',
      'ms',
      's',
      '0ms',
      '0d',
      '367d',
      '8785h',
      '31622400001ms',
      '99999999999d',
      '1000000000000ms',
    ];
    const misread = ['1.5s', '1e3ms', '-1s', '+1s', '1_000ms', '0x10s', 'Infinitys', 'NaNms', '١s'];
    const malformed = [
      ' 1s',
      '1s ',
      '1 s',
      '1s\n',
      '\n1s',
      '1S',
      '1MS',
      '1min',
      '1w',
      '1y',
      '1us',
      '1s1s',
      '1h30m',
      '1mss',
    ];
    const inherited = ['1constructor', '1__proto__', '1toString'];
    for (const text of [...refused, ...misread, ...malformed, ...inherited]) {
      expect(parseDuration(text), JSON.stringify(text)).to.equal(undefined);
    }
  });

  const written: [ms: number, text: string][] = [
    [1, '1ms'],
    [999, '999ms'],
    [1_000, '1s'],
    [1_001, '1001ms'],
    [59_000, '59s'],
    [60_000, '1m'],
    [90_000, '90s'],
    [3_600_000, '1h'],
    [5_400_000, '90m'],
    [86_400_000, '1d'],
    [90_000_000, '25h'],
    [MAX_WINDOW_MS, '366d'],
  ];
  for (const [ms, text] of written) {
    it(`writes ${ms} ms as ${text}`, () => {
      expect(formatDuration(ms)).to.equal(text);
    });
  }

  it('is written as the shortest text that reads back the same', () => {
    const units = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };
    const few = fc.tuple(fc.integer({ min: 1, max: 366 }), fc.constantFrom(...Object.values(units)));
    const roundMs = few.map(([count, unitMs]) => Math.min(count * unitMs, MAX_WINDOW_MS));
    fc.assert(
      fc.property(fc.oneof(roundMs, windowsMs), (ms) => {
        const text = formatDuration(ms);
        expect(parseDuration(text)).to.equal(ms);
        const others = Object.entries(units).map(([unit, unitMs]) => `${ms / unitMs}${unit}`);
        const readable = others.filter((other) => parseDuration(other) === ms);
        expect(text).to.have.length(Math.min(...readable.map(({ length }) => length)));
      }),
      { numRuns: 2_000 },
    );
  });
});
