import type { Request, RequestHandler, Response } from 'express';
import type { Observer } from '../../../node/observer.js';
import type { ActivePolicies } from '../../../policy/active-policies.js';
import type { PolicyWriter } from '../../../node/policies/policy-writer.js';
import {
  checkOverride,
  checkPolicy,
  EXPECTED_NAME,
  isObject,
  isPolicyName,
  warningsOn,
} from '../../../policy/check-policy.js';
import { expectedTier } from '../../../policy/policy-file.js';
import { badValue, unknownField, type Mistake } from '../../../lib/mistake.js';
import {
  MAX_ENTRIES,
  NOTHING_YET,
  overrideKey,
  tierKey,
  type PolicyDocument,
} from '../../../policy/policy-document.js';
import { policyKey, type EntryValue } from '../../../policy/policy-entry.js';
import type { LimitsText, PolicyText } from '../../../policy/policy.js';
import type { Actor } from '../../edge/audit.js';
import type { BodyReader } from '../body.js';
import { TokenringError } from '../../../lib/error.js';
import type { Turns } from '../../../lib/turns.js';
import { requireClientId } from '../../validate/request.js';
import { policyListJson } from './policy-list.js';
import type { EntryHandlers } from './routes.js';

/** One kind of entries in the policies: a policy, or the override or the tier of a client. */
interface EntryKind {
  /** What it is, for errors. */
  readonly what: string;
  /** The entry that an address names: its key, and the names in the address, which answers repeat. */
  at(req: Request): { readonly key: string; readonly about: Readonly<Record<string, string>> };
  /** Checks the value of a body, and returns the entry. @throws TokenringError `invalid_request`, `not_found` */
  read(value: unknown, about: Readonly<Record<string, string>>): EntryValue;
  /** Forms the fields of an answer from an entry. */
  show(entry: EntryValue): object;
}

/** Answers `/v1/policies`, and the overrides and tiers of clients. The API checks access before. */
export class PolicyEndpoints {
  readonly policy: EntryHandlers;
  readonly override: EntryHandlers;
  readonly tier: EntryHandlers;

  /** @param parts.maxPolicyBytes bound of all policies as JSON, for errors */
  constructor(
    private readonly parts: {
      readonly activePolicies: ActivePolicies;
      readonly policyWriter: PolicyWriter<Actor>;
      readonly observer: Pick<Observer, 'use'>;
      readonly bodies: BodyReader;
      readonly turns: Turns;
      readonly maxPolicyBytes: number;
    },
  ) {
    this.policy = this.handlersOf(this.policies(), (req) => this.requireUnused(req));
    this.override = this.handlersOf(this.overrides());
    this.tier = this.handlersOf(this.tiers());
  }

  readonly list: RequestHandler = async (req, res) => {
    const document = this.parts.activePolicies.document();
    const set = this.parts.activePolicies.set();
    res.setHeader('ETag', etagOf(document));
    if (req.fresh) return void res.status(304).end();
    const body = await policyListJson(document, set.default, this.parts.turns);
    res.setHeader('Content-Type', 'application/json; charset=utf-8');
    res.send(body);
  };

  /** @param beforeDelete throws if an entry must stay */
  private handlersOf(kind: EntryKind, beforeDelete?: (req: Request) => Promise<void>): EntryHandlers {
    return {
      get: (req, res) => {
        const { key, about } = kind.at(req);
        this.send(res, { ...about, ...kind.show(this.find(key, kind.what)) });
      },
      put: async (req, res) => {
        const { key, about } = kind.at(req);
        const entry = kind.read(withoutOwn(await this.parts.bodies.read(req), about), about);
        await this.write(req, res, key, entry, { ...about, ...kind.show(entry), ...withWarnings(entry) });
      },
      delete: async (req, res) => {
        const { key, about } = kind.at(req);
        this.find(key, kind.what);
        await beforeDelete?.(req);
        await this.write(req, res, key, null, about);
      },
    };
  }

  private policies(): EntryKind {
    return {
      what: 'policy',
      at: (req) => ({ key: policyKey(nameOf(req)), about: { name: nameOf(req) } }),
      read(value, { name }) {
        if (!isPolicyName(name)) throw new TokenringError('invalid_request', badValue('name', name, EXPECTED_NAME));
        refuseMistakes(checkPolicy(value));
        return value as PolicyText;
      },
      show: (entry) => entry as PolicyText,
    };
  }

  private overrides(): EntryKind {
    return {
      what: 'override',
      at(req) {
        const about = { clientId: clientIdOf(req), policy: nameOf(req) };
        return { key: overrideKey(about.policy, about.clientId), about };
      },
      read: (value, { policy }) => {
        refuseMistakes(checkOverride(value, this.find(policyKey(policy!), 'policy') as PolicyText));
        return value as LimitsText;
      },
      show: (entry) => entry as LimitsText,
    };
  }

  private tiers(): EntryKind {
    return {
      what: 'tier',
      at(req) {
        const clientId = clientIdOf(req);
        return { key: tierKey(clientId), about: { clientId } };
      },
      read: (value) => {
        if (!isObject(value))
          throw new TokenringError('invalid_request', badValue('body', value, 'an object, as in {"tier": "pro"}'));
        const { tier, ...others } = value;
        refuseMistakes(Object.keys(others).map((field) => unknownField('', field, ['tier'])));
        if (!isPolicyName(tier))
          throw new TokenringError('invalid_request', badValue('tier', tier, EXPECTED_NAME, 'a name'));
        const policies = [...this.parts.activePolicies.set().policies.values()];
        const tiers = new Set(policies.flatMap((policy) => [...policy.tiers.keys()]));
        if (!tiers.has(tier as string)) {
          const mistake = badValue('tier', tier, expectedTier(tiers), 'a tier of any policy');
          throw new TokenringError('invalid_request', mistake);
        }
        return tier as string;
      },
      show: (tier) => ({ tier }),
    };
  }

  private find(key: string, what: string): EntryValue {
    const value = this.parts.activePolicies.document().entries.get(key)?.value ?? null;
    if (value === null) throw new TokenringError('not_found', { detail: `there is no such ${what}` });
    return value;
  }

  private send(
    res: Response,
    body: object,
    at: Pick<PolicyDocument, 'version' | 'digest'> = this.parts.activePolicies.document(),
  ): void {
    res.setHeader('ETag', etagOf(at));
    res.json({ ...body, version: at.version });
  }

  /** Makes a change. All changes of the API go through this function. */
  private async write(req: Request, res: Response, key: string, value: EntryValue | null, body: object): Promise<void> {
    const written = await this.parts.policyWriter.write(new Map([[key, value]]), actorFrom(res), conditionOf(req));
    if (written.kind !== 'written') throw refusal(written, req, this.parts.maxPolicyBytes);
    this.send(res, body, written);
  }

  /**
   * A member that does not answer may have callers that use the policy.
   * @throws TokenringError `policy_in_use` unless no member was asked for the policy in the last hour, or it is forced
   */
  private async requireUnused(req: Request): Promise<void> {
    if (isForced(req)) return;
    const name = nameOf(req);
    const { asks, lastMs, missing } = await this.parts.observer.use(name);
    if (asks === 0 && missing.length === 0) return;
    const reasons: string[] = [];
    if (lastMs !== undefined)
      reasons.push(`${asks} ${asks === 1 ? 'request' : 'requests'} in the last hour, the last ${agoOf(lastMs)} ago`);
    if (missing.length > 0) reasons.push(`unknown to ${missing.join(', ')}, which does not answer`);
    throw new TokenringError('policy_in_use', {
      detail: `${name}: ${reasons.join('; ')}; to delete it nevertheless, send DELETE with ?force=true`,
    });
  }
}

/** The client that an address names. @throws TokenringError `invalid_request` if it is no client id */
export function clientIdOf(req: Request): string {
  const clientId = req.params['clientId'] as string;
  requireClientId(clientId);
  return clientId;
}

/** The author of a request, for the audit log, once its token is admitted. */
export function actorFrom(res: Response): Actor {
  return res.locals['who'] as Actor;
}

function nameOf(req: Request): string {
  return req.params['policy'] as string;
}

function etagOf({ version, digest }: Pick<PolicyDocument, 'version' | 'digest'>): string {
  return `"${version}-${digest}"`;
}

/** Whether a deletion is wanted although the policy is in use. */
function isForced({ query: { force = 'false' } }: Request): boolean {
  if (force === 'true' || force === 'false') return force === 'true';
  throw new TokenringError('invalid_request', badValue('force', force, 'true or false'));
}

function agoOf(ms: number): string {
  return ms < 60_000 ? `${Math.floor(ms / 1_000)} s` : `${Math.floor(ms / 60_000)} min`;
}

function withWarnings(entry: EntryValue): { warnings?: string[] } {
  const warnings = typeof entry === 'string' ? [] : warningsOn(entry as PolicyText | LimitsText);
  return warnings.length === 0 ? {} : { warnings };
}

/** Removes the version, the warnings, and the names that the address contains, so that a caller can send back an answer to GET. */
function withoutOwn(value: unknown, own: Readonly<Record<string, string>>): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const fields = Object.entries(value).filter(
    ([field, given]) => field !== 'version' && field !== 'warnings' && given !== own[field],
  );
  return Object.fromEntries(fields);
}

function refuseMistakes(mistakes: readonly Mistake[]): void {
  const [first] = mistakes;
  if (first === undefined) return;
  const { field, expected } = first;
  throw new TokenringError('invalid_request', {
    field,
    expected,
    detail: mistakes.map(({ detail }) => detail).join('; '),
  });
}

/** Reads the versions that permit a change, from `If-None-Match` or `If-Match` (RFC 9110). */
function conditionOf({ headers }: Request): readonly string[] | undefined {
  const noneMatch = headers['if-none-match'];
  if (noneMatch === undefined) return tagsOf(headers['if-match']);
  if (noneMatch.trim() !== '*' || headers['if-match'] !== undefined)
    throw new TokenringError('invalid_request', { field: 'If-None-Match', expected: '*, without If-Match' });
  return [NOTHING_YET];
}

/** Reads the tags of `If-Match`; `*` matches any version. */
function tagsOf(header: string | undefined): readonly string[] | undefined {
  if (header === undefined) return undefined;
  const tags = header.split(',').map((tag) => tag.trim());
  if (tags.includes('*')) return ['*'];
  // Weak tags, and tags that are not versions, never match.
  const bare = tags.slice(0, 16).map((tag) => tag.replace(/^"(.*)"$/, '$1').slice(0, 128));
  return bare.filter((tag) => /^\d/.test(tag));
}

function refusal(
  written: Exclude<Awaited<ReturnType<PolicyWriter<Actor>['write']>>, { kind: 'written' }>,
  { headers }: Request,
  maxPolicyBytes: number,
): TokenringError {
  switch (written.kind) {
    case 'conflict':
      if (headers['if-none-match'] !== undefined)
        return new TokenringError('precondition_failed', {
          field: 'If-None-Match',
          expected: 'nothing of this name yet',
        });
      return new TokenringError('precondition_failed', {
        field: 'If-Match',
        expected: `"${written.version}-${written.digest}"`,
      });
    case 'full':
      return new TokenringError('too_many_policies', {
        expected: `at most ${MAX_ENTRIES} entries, and ${maxPolicyBytes} bytes of all`,
      });
    case 'too-large':
      return new TokenringError('too_many_policies', {
        detail: `etcd does not take all policies together: ${written.reason}`,
      });
    case 'unavailable':
      return new TokenringError('unavailable', {
        detail: 'the node that accepts changes does not answer; send it again',
      });
    case 'no-registry': {
      const outcome = written.undone ? 'nothing has changed' : 'it may have changed; read it again';
      return new TokenringError('unavailable', {
        detail: `etcd takes no change of policies now: ${written.reason}; ${outcome}`,
      });
    }
  }
}
