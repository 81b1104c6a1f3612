import type { Policies } from '../../policy/active-policies.js';
import { MAX_COST, MAX_LIMIT, MAX_WINDOW_MS } from '../../limits/bucket/rule.js';
import { EXPECTED_CLIENT_ID } from '../../limits/client-id.js';
import { TokenringError } from '../../lib/error.js';
import { badValue, noSuchOption } from '../../lib/mistake.js';
import { readCheck } from '../validate/request.js';
import { allowReply, throttleReply, type CheckCommand } from './decision-writer.js';
import { ErrorText, wrongArity } from './value.js';

/** Reads the arguments of a command that asks for a decision, its name included. */
type ReadCheckCommand = (args: readonly string[], policies: Policies) => CheckCommand | ErrorText;

/** The commands that ask for a decision, by name. Those of one chunk are decided together. */
export const CHECK_COMMANDS: ReadonlyMap<string, ReadCheckCommand> = new Map([
  ['TR.ALLOW', readAllow],
  ['CL.THROTTLE', readThrottle],
  ['THROTTLE', readThrottle],
]);

/** The options of `TR.ALLOW` with a value, and the fields of `POST /v1/allow` that they are. */
const FIELDS: Readonly<Record<string, string>> = {
  LIMIT: 'limit',
  WINDOW: 'window',
  BURST: 'burst',
  ALGORITHM: 'algorithm',
  COST: 'cost',
  POLICY: 'policy',
  SCOPE: 'scope',
  ID: 'requestId',
  DURABILITY: 'durability',
};
const FLAGS: Readonly<Record<string, string>> = { RESERVE: 'reserve', PEEK: 'peek' };
const TEXTS: ReadonlySet<string> = new Set(['POLICY', 'SCOPE', 'ID', 'ALGORITHM', 'DURABILITY']);
const OPTIONS = [...Object.keys(FIELDS), ...Object.keys(FLAGS)];

/**
 * Reads `TR.ALLOW client [option value]…`. The validator of `POST /v1/allow` then reads its fields, so both refuse the
 * same with the same text.
 * @throws TokenringError `invalid_request`, `unknown_policy`
 */
function readAllow(args: readonly string[], policies: Policies): CheckCommand | ErrorText {
  if (args.length < 2) return wrongArity(args[0]!);
  const asked: Record<string, unknown> = { clientId: args[1] };
  for (let i = 2; i < args.length; i += 1) {
    const given = args[i]!;
    const option = given.toUpperCase();
    const flag = Object.hasOwn(FLAGS, option) ? FLAGS[option]! : undefined;
    const field = flag ?? (Object.hasOwn(FIELDS, option) ? FIELDS[option]! : undefined);
    if (field === undefined) throw refused(given, noSuchOption(given, OPTIONS));
    if (Object.hasOwn(asked, field)) throw refused(option, `${option} is there more than once; use it once`);
    if (flag !== undefined) {
      asked[flag] = true;
      continue;
    }
    i += 1;
    if (i === args.length) throw refused(option, `${option} has no value; use ${option} and its value`);
    asked[field] = TEXTS.has(option) ? args[i]! : numberOrText(args[i]!);
  }
  return { check: readCheck(asked, policies), reply: allowReply };
}

/** Numbers are texts on the wire. The validator refuses other texts by their field. */
function numberOrText(text: string): number | string {
  return /^-?\d{1,15}(?:\.\d{1,15})?$/.test(text) ? Number(text) : text;
}

function refused(field: string, detail: string): TokenringError {
  return new TokenringError('invalid_request', { field, detail });
}

const MAX_SECONDS = MAX_WINDOW_MS / 1_000;
/** A number of Rust's `i64`, as redis-cell reads it. */
const INTEGER = /^[+-]?\d+$/;
const MAX_INT64 = 2n ** 63n - 1n;

/** Names of the arguments, and their bounds here. In redis-cell, all are 64-bit numbers. */
const BOUNDS = {
  max_burst: [0, MAX_LIMIT - 1],
  count: [1, MAX_LIMIT],
  period: [1, MAX_SECONDS],
  quantity: [0, MAX_COST],
} as const;

/**
 * Reads `CL.THROTTLE key max_burst count period [quantity]` of redis-cell: `count` tokens per `period` seconds, in a
 * bucket of `max_burst + 1`. A quantity of 0 consumes nothing.
 * @returns the error of redis-cell with its text, where redis-cell refuses the arguments
 * @throws TokenringError `invalid_request` for what only Tokenring refuses
 */
export function readThrottle(args: readonly string[], policies: Policies): CheckCommand | ErrorText {
  if (args.length !== 5 && args.length !== 6)
    return cellError(`Usage: cl.throttle <key> <max_burst> <count per period> <period> [<quantity>]`);
  const [, key, ...texts] = args;
  const wrong = texts.find((text) => !isInteger(text));
  if (wrong !== undefined) return cellError(`Couldn't parse as integer: ${wrong}`);
  const [burst, count, period, quantity = 1] = texts.map(Number) as [number, number, number, number?];
  if (count === 0 || period === 0) return cellError('Zero rates are not supported');
  requireBounds({ max_burst: burst, count, period, quantity });
  const asked = { limit: count, windowMs: period * 1_000, burst: burst + 1 };
  const check = readCheck(
    { clientId: requireKey(key!), ...asked, ...(quantity === 0 ? { peek: true } : { cost: quantity }) },
    policies,
  );
  return { check, reply: throttleReply(burst + 1, quantity === 0 ? asked.windowMs / count : undefined) };
}

function requireBounds(given: Record<keyof typeof BOUNDS, number>): void {
  for (const [name, [min, max]] of Object.entries(BOUNDS)) {
    const value = given[name as keyof typeof BOUNDS];
    if (value < min || value > max)
      throw new TokenringError('invalid_request', badValue(name, value, `a whole number from ${min} to ${max}`));
  }
}

function requireKey(key: string): string {
  if (key === '') throw new TokenringError('invalid_request', badValue('key', key, EXPECTED_CLIENT_ID, 'a client id'));
  return key;
}

function isInteger(text: string): boolean {
  if (!INTEGER.test(text)) return false;
  const value = BigInt(text.replace('+', ''));
  return value <= MAX_INT64 && value >= -MAX_INT64 - 1n;
}

function cellError(text: string): ErrorText {
  return new ErrorText(`Cell error: Store error: ${text}`);
}
