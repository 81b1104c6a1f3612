import { createHmac } from 'node:crypto';
import { expect } from 'chai';
import fc from 'fast-check';
import { createHmac256 } from '../../src/peer/hmac.js';

describe('hmac', () => {
  it('is HMAC-SHA256 as node:crypto makes it, for texts and bytes of any length', () => {
    const keys = fc.uint8Array({ minLength: 32, maxLength: 32 });
    const lengths = fc.oneof(fc.nat(300), fc.integer({ min: 65_000, max: 66_000 }), fc.constant(200_000));
    const heads = fc.string({ maxLength: 100 }).filter((head) => /^[\x20-\x7e]*$/.test(head));
    fc.assert(
      fc.property(
        keys,
        fc.array(fc.tuple(heads, lengths, fc.string({ unit: 'binary' })), { minLength: 1, maxLength: 3 }),
        (key, texts) => {
          const hmac = createHmac256(Buffer.from(key));
          for (const [head, length, some] of texts) {
            const text = some.padEnd(length, 'é');
            const bytes = Buffer.from(text);
            const expected = createHmac('sha256', key).update(head).update(bytes).digest('base64url');
            expect(hmac(head, bytes)).to.equal(expected);
            expect(hmac(head, text)).to.equal(expected);
          }
        },
      ),
    );
  });

  it('gives the value of RFC 4231, test case 2', () => {
    const key = Buffer.alloc(32);
    key.write('Jefe');
    const expected = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843';
    expect(createHmac256(key)('what do ya want ', 'for nothing?')).to.equal(
      Buffer.from(expected, 'hex').toString('base64url'),
    );
  });
});
