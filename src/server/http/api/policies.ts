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
import { badValue, unknownField } from '../../../lib/mistake.js';
import type { Mistake } from '../../../lib/mistake.js';
import { MAX_DOCUMENT_BYTES, MAX_ENTRIES, NOTHING_YET, overrideKey, tierKey } from '../../../policy/policy-document.js';
import { policyKey } from '../../../policy/policy-entry.js';
import type { PolicyDocument } from '../../../policy/policy-document.js';
import type { EntryValue } from '../../../policy/policy-entry.js';
import type { LimitsText, PolicyText } from '../../../policy/policy.js';
import type { Actor } from '../../edge/access/audit.js';
import type { ReadBody } from '../body.js';
import { TokenringError } from '../../../lib/error.js';
import type { Turns } from '../../edge/turns.js';
import { clientIdOf } from './client-param.js';
import { policyListJson } from './policy-list.js';

interface PolicyApiDeps {
  readonly readBody: ReadBody;
  readonly activePolicies: ActivePolicies;
  readonly policyWriter: PolicyWriter<Actor>;
  readonly cluster: { readonly observer: Pick<Observer, 'use'> };
  /** The author of a change, for the audit log. */
  readonly actorFrom: (res: Response) => Actor;
  /** The time of long answers in one turn of the event loop. */
  readonly turns: Turns;
}

type Methods = Readonly<Record<'get' | 'put' | 'delete', RequestHandler>>;

interface PolicyHandlers {
  readonly list: RequestHandler;
  readonly policy: Methods;
  readonly override: Methods;
  readonly tier: Methods;
}

/**
 * Handles `/v1/policies`, and the overrides and tiers of clients. The API checks access before it calls these handlers.
 * @param maxPolicyBytes bound of all policies as JSON, for errors
 */
export function createPolicyHandlers(
  { cluster, activePolicies, policyWriter, readBody, actorFrom, turns }: PolicyApiDeps,
  { maxPolicyBytes = MAX_DOCUMENT_BYTES }: { maxPolicyBytes?: number },
): PolicyHandlers {
  function textOf(key: string): EntryValue | null {
    return activePolicies.document().entries.get(key)?.value ?? null;
  }

  function find(key: string, what: string): EntryValue {
    const value = textOf(key);
    if (value === null) throw new TokenringError('not_found', { detail: `there is no such ${what}` });
    return value;
  }

  function send(
    res: Response,
    body: object,
    at: Pick<PolicyDocument, 'version' | 'digest'> = activePolicies.document(),
  ): void {
    res.setHeader('ETag', etagOf(at));
    res.json({ ...body, version: at.version });
  }

  /** Makes a change. All changes of the API go through this function. */
  async function write(
    req: Request,
    res: Response,
    key: string,
    value: EntryValue | null,
    body: object,
  ): Promise<void> {
    const changes = new Map([[key, value]]);
    const written = await policyWriter.write(changes, actorFrom(res), conditionOf(req));
    if (written.kind !== 'written') throw refusal(written, req, maxPolicyBytes);
    send(res, body, written);
  }

  /**
   * A member that does not answer may have callers that use the policy.
   * @throws TokenringError `policy_in_use` unless no member was asked for the policy in the last hour
   */
  async function requireUnused(name: string): Promise<void> {
    const { asks, lastMs, missing } = await cluster.observer.use(name);
    if (asks === 0 && missing.length === 0) return;
    const reasons: string[] = [];
    if (lastMs !== undefined)
      reasons.push(`${asks} ${asks === 1 ? 'request' : 'requests'} in the last hour, the last ${agoOf(lastMs)} ago`);
    if (missing.length > 0) reasons.push(`unknown to ${missing.join(', ')}, which does not answer`);
    throw new TokenringError('policy_in_use', {
      detail: `${name}: ${reasons.join('; ')}; to delete it nevertheless, send DELETE with ?force=true`,
    });
  }

  const nameOf = (req: Request): string => req.params['policy'] as string;

  /** Reads the policy, client, and override from an address. */
  function overrideOf(req: Request): { key: string; about: { clientId: string; policy: string } } {
    const about = { clientId: clientIdOf(req), policy: nameOf(req) };
    return { key: overrideKey(about.policy, about.clientId), about };
  }

  return {
    list: async (req, res) => {
      const document = activePolicies.document();
      const set = activePolicies.set();
      res.setHeader('ETag', etagOf(document));
      if (req.fresh) return void res.status(304).end();
      const body = await policyListJson(document, set.default, turns);
      res.setHeader('Content-Type', 'application/json; charset=utf-8');
      res.send(body);
    },
    policy: {
      get: (req, res) => send(res, { name: nameOf(req), ...(find(policyKey(nameOf(req)), 'policy') as PolicyText) }),
      put: async (req, res) => {
        const name = nameOf(req);
        if (!isPolicyName(name)) throw new TokenringError('invalid_request', badValue('name', name, EXPECTED_NAME));
        const value = withoutOwn(await readBody(req), { name });
        refuseMistakes(checkPolicy(value));
        const policy = value as PolicyText;
        await write(req, res, policyKey(name), policy, { name, ...policy, ...withWarnings(policy) });
      },
      delete: async (req, res) => {
        find(policyKey(nameOf(req)), 'policy');
        if (!isForced(req)) await requireUnused(nameOf(req));
        await write(req, res, policyKey(nameOf(req)), null, { name: nameOf(req) });
      },
    },
    override: {
      get: (req, res) => {
        const { key, about } = overrideOf(req);
        send(res, { ...about, ...(find(key, 'override') as object) });
      },
      put: async (req, res) => {
        const { key, about } = overrideOf(req);
        const policy = find(policyKey(about.policy), 'policy') as PolicyText;
        const value = withoutOwn(await readBody(req), about);
        refuseMistakes(checkOverride(value, policy));
        const limits = value as LimitsText;
        await write(req, res, key, limits, { ...about, ...limits, ...withWarnings(limits) });
      },
      delete: async (req, res) => {
        const { key, about } = overrideOf(req);
        find(key, 'override');
        await write(req, res, key, null, about);
      },
    },
    tier: {
      get: (req, res) => {
        const clientId = clientIdOf(req);
        send(res, { clientId, tier: find(tierKey(clientId), 'tier') });
      },
      put: async (req, res) => {
        const clientId = clientIdOf(req);
        const value = withoutOwn(await readBody(req), { clientId });
        if (!isObject(value))
          throw new TokenringError('invalid_request', badValue('body', value, 'an object, as in {"tier": "pro"}'));
        const { tier, ...others } = value;
        refuseMistakes(Object.keys(others).map((field) => unknownField('', field, ['tier'])));
        if (!isPolicyName(tier))
          throw new TokenringError('invalid_request', badValue('tier', tier, EXPECTED_NAME, 'a name'));
        const tiers = new Set([...activePolicies.set().policies.values()].flatMap((one) => [...one.tiers.keys()]));
        if (!tiers.has(tier as string))
          throw new TokenringError(
            'invalid_request',
            badValue('tier', tier, expectedTier(tiers), 'a tier of any policy'),
          );
        await write(req, res, tierKey(clientId), tier as string, { clientId, tier });
      },
      delete: async (req, res) => {
        const clientId = clientIdOf(req);
        find(tierKey(clientId), 'tier');
        await write(req, res, tierKey(clientId), null, { clientId });
      },
    },
  };
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

function withWarnings(value: PolicyText | LimitsText): { warnings?: string[] } {
  const warnings = warningsOn(value);
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
