import { MAX_LIMIT } from '../../limits/bucket/rule.js';
import { MAX_CLIENT_ID_BYTES } from '../../limits/client-id.js';
import { MAX_LEASE_ID_BYTES } from '../../limits/format/buckets.js';
import { RuleReader, RuleWriter } from '../../limits/format/rules.js';
import { readVerdict, VERDICT_FLAGS, writeVerdict } from '../../limits/format/verdicts.js';
import type { Verdict } from '../../limits/decide/decide.js';
import type { LeaseGrant, LeaseRequest, LeaseReturn } from '../messages.js';
import { list, object, optional, text, whole, type Codec } from './codec.js';

/** Bound of the leases in one message. A node holds fewer. */
const MAX_LEASES = 100_000;

export const clientId = text(1, MAX_CLIENT_ID_BYTES, 'client id');
const leaseId = text(1, MAX_LEASE_ID_BYTES, 'lease id');
const tokens = whole(1, MAX_LIMIT, 'tokens');

/** Each is the client, the number of rules, the rules, and the tokens. */
export const leaseRequests: Codec<readonly LeaseRequest[]> = {
  write(out, requests) {
    const rules = new RuleWriter();
    out.whole(requests.length);
    for (const request of requests) {
      clientId.write(out, request.clientId);
      out.byte(request.rules.length);
      for (const rule of request.rules) rules.write(out, rule);
      tokens.write(out, request.tokens);
    }
  },
  read(from) {
    const rules = new RuleReader();
    const count = from.whole(0, MAX_LEASES, 'number of requests');
    const requests: LeaseRequest[] = [];
    while (requests.length < count) {
      const id = clientId.read(from);
      requests.push({ clientId: id, rules: rules.readSeveral(from), tokens: tokens.read(from) });
    }
    return requests;
  },
};

export const leaseReturns = list(
  object<LeaseReturn>({ clientId, id: leaseId, unspent: whole(0, MAX_LIMIT, 'unspent tokens') }),
  MAX_LEASES,
  'returns',
);

const verdict: Codec<Verdict> = {
  write: (out, value) => writeVerdict(out, value, 0),
  read: (from) => readVerdict(from, from.flags(VERDICT_FLAGS, 'flags of a verdict')),
};

export const leaseGrants = list(
  optional(object<LeaseGrant>({ id: leaseId, tokens, verdict }), null),
  MAX_LEASES,
  'grants',
);
