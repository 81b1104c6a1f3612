import { expect } from 'chai';
import type { MessageTypeDefinition } from '@grpc/proto-loader';
import { TokenringError } from '../../src/lib/error.js';
import {
  MAX_DESCRIPTORS,
  OK,
  OVER_LIMIT,
  readHealthCheckRequest,
  readRateLimitRequest,
  SERVING,
  writeHealthCheckResponse,
  writeRateLimitResponse,
} from '../../src/server/grpc/messages.js';
import { PUBLISHED, requestSerialize, responseDeserialize, type Answered } from '../support/grpc.js';
import { createRandom } from '../sim/random.js';

const bytes = (...parts: (number | string)[]): Buffer =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from([part]))));

/** The fields of a published message, as `name number`. */
function fieldsOf(name: string): string[] {
  const { type } = PUBLISHED[name] as unknown as MessageTypeDefinition<object, object> & {
    type: { field: { name: string; number: number }[] };
  };
  return type.field.map((field) => `${field.name} ${field.number}`);
}

const REQUEST = {
  domain: 'edge',
  descriptors: [
    {
      entries: [
        { key: 'user', value: 'älice' },
        { key: 'path', value: '' },
      ],
      limit: { requests_per_unit: 7, unit: 'DAY' },
    },
    { entries: [{ key: 'a', value: 'b' }] },
  ],
  hits_addend: 300,
};

describe('the messages of the rate limit service', () => {
  it('have the published field numbers', () => {
    expect(fieldsOf('envoy.service.ratelimit.v3.RateLimitRequest')).to.deep.equal([
      'domain 1',
      'descriptors 2',
      'hits_addend 3',
    ]);
    expect(fieldsOf('envoy.extensions.common.ratelimit.v3.RateLimitDescriptor')).to.include.members([
      'entries 1',
      'limit 2',
    ]);
    expect(fieldsOf('envoy.service.ratelimit.v3.RateLimitResponse')).to.include.members([
      'overall_code 1',
      'statuses 2',
      'response_headers_to_add 3',
    ]);
  });

  it('are read as the published protocol writes them', () => {
    expect(readRateLimitRequest(requestSerialize(REQUEST))).to.deep.equal({
      domain: 'edge',
      descriptors: [
        {
          entries: [
            { key: 'user', value: 'älice' },
            { key: 'path', value: '' },
          ],
          limit: { requestsPerUnit: 7, unit: 4 },
          hitsAddend: undefined,
        },
        { entries: [{ key: 'a', value: 'b' }], limit: undefined, hitsAddend: undefined },
      ],
      hitsAddend: 300,
    });
  });

  it('are written as the published protocol reads them', () => {
    const name = 'x'.repeat(128);
    const written = writeRateLimitResponse({
      overallCode: OVER_LIMIT,
      statuses: [
        { code: OK, currentLimit: undefined, limitRemaining: 0xffffffff, untilResetMs: 0 },
        {
          code: OVER_LIMIT,
          currentLimit: { name, requestsPerUnit: 1_000_000_000, unit: 2 },
          limitRemaining: 0,
          untilResetMs: 31_536_000_001,
        },
      ],
      responseHeaders: ['RateLimit', '"ä";r=0'],
    });
    expect(responseDeserialize(written)).to.deep.include({
      overall_code: 2,
      statuses: [
        { code: 1, limit_remaining: 0xffffffff, current_limit: null, duration_until_reset: null, quota: null },
        {
          code: 2,
          limit_remaining: 0,
          quota: null,
          current_limit: { name, requests_per_unit: 1_000_000_000, unit: 2 },
          duration_until_reset: { seconds: 31_536_000, nanos: 1_000_000 },
        },
      ],
    });
  });

  it('stay as they are while later ones are written, also large ones', () => {
    const names = Array.from({ length: 500 }, (_, i) => `${i}`.repeat(1 + ((i * 37) % 60)) + (i % 7 === 0 ? 'ä' : ''));
    const messages = [...names, 'x'.repeat(20_000), 'y'].map((name) => ({
      name,
      written: writeRateLimitResponse({
        overallCode: OK,
        statuses: [
          { code: OK, currentLimit: { name, requestsPerUnit: 7, unit: 2 }, limitRemaining: 6, untilResetMs: 1 },
        ],
        responseHeaders: [],
      }),
    }));
    for (const { name, written } of messages) {
      const { statuses } = responseDeserialize(written) as Answered;
      expect(statuses[0]!.current_limit).to.deep.equal({ name, requests_per_unit: 7, unit: 2 });
    }
  });

  it('read the hits of a descriptor, also 0, which later versions of the protocol have', () => {
    // descriptors (2) { hits_addend (3) { value (1): 300 } }, and an empty UInt64Value, which is 0.
    const hits = readRateLimitRequest(bytes(0x12, 5, 0x1a, 3, 0x08, 0xac, 0x02, 0x12, 2, 0x1a, 0)).descriptors;
    expect(hits.map(({ hitsAddend }) => hitsAddend)).to.deep.equal([300, 0]);
  });

  it('skip unknown fields of every type, and known ones of another type', () => {
    const unknown = [
      bytes(0x78, 1),
      bytes(0x79, '12345678'),
      bytes(0x7a, 3, 'abc'),
      bytes(0x7b, 0x08, 1, 0x7c),
      bytes(0x7d, '1234'),
      bytes(0x08, 5),
      bytes(0x1a, 1, 'x'),
    ];
    for (const one of unknown) {
      expect(readRateLimitRequest(Buffer.concat([one, bytes(0x0a, 4, 'edge'), one])).domain).to.equal('edge');
    }
  });

  it('keep the last value of a field, and merge the parts of a message', () => {
    const both = readRateLimitRequest(bytes(0x0a, 1, 'a', 0x0a, 1, 'b', 0x12, 8, 0x12, 2, 0x08, 7, 0x12, 2, 0x10, 1));
    expect(both.domain).to.equal('b');
    expect(both.descriptors[0]!.limit).to.deep.equal({ requestsPerUnit: 7, unit: 1 });
  });

  it('read bytes that are not UTF-8 as one client, instead of failing the request', () => {
    const { descriptors } = readRateLimitRequest(bytes(0x12, 8, 0x0a, 6, 0x0a, 1, 'k', 0x12, 1, 0xff));
    expect(descriptors[0]!.entries).to.deep.equal([{ key: 'k', value: '\ufffd' }]);
  });

  it('are refused with the field named where they have too many parts', () => {
    const descriptors = Array.from({ length: MAX_DESCRIPTORS + 1 }, () => ({ entries: [{ key: 'a', value: 'b' }] }));
    expect(() => readRateLimitRequest(requestSerialize({ domain: 'd', descriptors })))
      .to.throw(TokenringError)
      .with.property('field', 'descriptors');
    const entries = Array.from({ length: 17 }, () => ({ key: 'a', value: 'b' }));
    expect(() => readRateLimitRequest(requestSerialize({ domain: 'd', descriptors: [{ entries }] })))
      .to.throw(TokenringError)
      .with.property('field', 'descriptors[0].entries');
  });

  it('of health have the published field numbers', () => {
    expect(readHealthCheckRequest(bytes(0x0a, 3, 'abc'))).to.equal('abc');
    expect(readHealthCheckRequest(Buffer.alloc(0))).to.equal('');
    expect(writeHealthCheckResponse(SERVING)).to.deep.equal(Buffer.from([0x08, 1]));
  });

  it('that are damaged in 20,000 ways are read or refused, and nothing else', () => {
    const chance = createRandom(18);
    const random = (below: number): number => chance.between(0, below - 1);
    const good = requestSerialize(REQUEST);
    let refused = 0;
    for (let i = 0; i < 20_000; i += 1) {
      const damaged = Buffer.from(good.subarray(0, 1 + random(good.length)));
      for (let n = random(4); n >= 0; n -= 1) damaged[random(damaged.length)] = random(256);
      try {
        const { descriptors } = readRateLimitRequest(damaged);
        expect(descriptors.length).to.be.at.most(MAX_DESCRIPTORS);
      } catch (error) {
        expect(error, damaged.toString('hex'))
          .to.be.instanceOf(TokenringError)
          .with.property('code', 'invalid_request');
        refused += 1;
      }
    }
    expect(refused).to.be.within(1_000, 19_900);
  });
});
