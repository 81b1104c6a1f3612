import type { Policies } from '../../policy/active-policies.js';
import { TokenringError } from '../../lib/error.js';
import { noSuchOption } from '../../lib/mistake.js';
import { readCheck } from '../validate/request.js';
import { allowReply, type Question } from './decision-writer.js';
import { readThrottle } from './throttle.js';
import { wrongArity, type ErrorText } from './value.js';

/** Reads the arguments of a command that asks for a decision, its name included. */
type ReadQuestion = (args: readonly string[], policies: Policies) => Question | ErrorText;

/** The commands that ask for a decision, by name. Those of one chunk are decided together. */
export const QUESTIONS: ReadonlyMap<string, ReadQuestion> = new Map([
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
function readAllow(args: readonly string[], policies: Policies): Question | ErrorText {
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
