import { expect } from 'chai';
import type { AllowRequest, LimitRequest } from '../../src/limits/request/request.js';
import { AllowRequestSchema, LimitSchema } from '../../src/server/validate/schema.js';

// The compiler holds these to the types; the test holds the schemas to these.
const OF_LIMIT: Record<keyof LimitRequest, true> = {
  limit: true,
  window: true,
  windowMs: true,
  burst: true,
  algorithm: true,
};
const OF_REQUEST: Record<keyof AllowRequest, true> = {
  ...OF_LIMIT,
  clientId: true,
  scope: true,
  limits: true,
  policy: true,
  cost: true,
  reserve: true,
  peek: true,
  durability: true,
  requestId: true,
};

describe('a request', () => {
  it('has the same fields for callers of the library and of the API', () => {
    expect(AllowRequestSchema.properties).to.have.all.keys(OF_REQUEST);
    expect(LimitSchema.properties).to.have.all.keys(OF_LIMIT);
  });
});
