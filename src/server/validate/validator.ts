import { Type, type Static, type TObject, type TProperties, type TSchema } from '@sinclair/typebox';
import { TypeCompiler, type TypeCheck } from '@sinclair/typebox/compiler';
import type { ValueErrorIterator, ValueError } from '@sinclair/typebox/errors';
import { EXPECTED_CLIENT_ID } from '../../limits/client-id.js';
import { EXPECTED_WINDOW } from '../../limits/duration.js';
import { badField, badValue, nearestName, unknownField, type Mistake } from '../../lib/mistake.js';
import { MAX_BATCH } from '../../limits/request/request.js';
import { TokenringError } from '../../lib/error.js';
import { EXPECTED_SCOPE, MAX_RULES } from '../../limits/bucket/rule.js';
import { MAX_REQUEST_ID_BYTES } from '../../limits/format/checks.js';

/** The sentences for fields whose schema does not explain enough. */
const EXPECTED: Readonly<Record<string, string>> = {
  clientId: EXPECTED_CLIENT_ID,
  window: EXPECTED_WINDOW,
  limits: `a list of 1 to ${MAX_RULES} limits`,
  policy: 'the name of a policy',
  requestId: `1 to ${MAX_REQUEST_ID_BYTES} bytes of well-formed Unicode`,
  scope: EXPECTED_SCOPE,
  reservation: 'the name from an answer of /v1/allow',
  requests: `a list of 1 to ${MAX_BATCH} requests`,
};

/** Errors that are searched for a mistyped field, which explains why another field is missing. */
const MAX_ERRORS = 16;

/** The schema of an object that has no other fields. */
export function object<T extends TProperties>(fields: T, description?: string): TObject<T> {
  return Type.Object(fields, { additionalProperties: false, ...(description !== undefined && { description }) });
}

/** The same, under a name of its own in the OpenAPI document. */
export function named<T extends TProperties>(name: string, fields: T, description?: string): TObject<T> {
  return { ...object(fields, description), $id: name };
}

/** Checks values that come from outside against a schema, which is compiled once. */
export class Validator<T extends TSchema> {
  private readonly compiled: TypeCheck<T>;
  private readonly quotes: boolean;

  /** @param options.quotes whether errors may show the value; false when it may contain a secret. Default true. */
  constructor(schema: T, { quotes = true } = {}) {
    this.compiled = TypeCompiler.Compile(schema);
    this.quotes = quotes;
  }

  fits(value: unknown): value is Static<T> {
    return this.compiled.Check(value);
  }

  /** @throws TokenringError `invalid_request` that names the field and its valid values */
  read(value: unknown): Static<T> {
    if (!this.compiled.Check(value)) throw this.problemOf(value);
    return value;
  }

  /** Describes what is wrong with a value that does not fit. */
  problemOf(value: unknown): TokenringError {
    const found = firstOf(this.compiled.Errors(value), MAX_ERRORS);
    const mistyped = found.find((error) => error.message === UNEXPECTED && nearestOf(error) !== undefined);
    const error = mistyped ?? found[0]!;
    return new TokenringError(
      'invalid_request',
      error.message === UNEXPECTED ? unknown(error) : wrongValue(error, this.quotes),
    );
  }
}

function firstOf(errors: ValueErrorIterator, count: number): ValueError[] {
  const found: ValueError[] = [];
  for (const error of errors) if (found.push(error) === count) break;
  return found;
}

const UNEXPECTED = 'Unexpected property';

/** Splits a path of RFC 6901 into the names that people write: `/limits/1/window` is `limits[1].window`. */
function namesOf(path: string): string[] {
  return path
    .split('/')
    .slice(1)
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function fieldOf(names: readonly string[]): string {
  return names.map((name, i) => (/^\d+$/.test(name) ? `[${name}]` : i === 0 ? name : `.${name}`)).join('');
}

function unknown(error: ValueError): Mistake {
  const names = namesOf(error.path);
  const name = names.pop()!;
  const mistake = unknownField(fieldOf(names), name, knownBy(error));
  return mistake.field === '' ? { ...mistake, field: 'body' } : mistake;
}

function nearestOf(error: ValueError): string | undefined {
  return nearestName(namesOf(error.path).pop()!, knownBy(error));
}

function knownBy({ schema }: ValueError): string[] {
  return Object.keys((schema['properties'] ?? {}) as object);
}

function wrongValue({ path, value, schema, message }: ValueError, quotes: boolean): Mistake {
  const names = namesOf(path);
  const field = fieldOf(names) || 'body';
  const own = names.at(-1) ?? '';
  const expected =
    (Object.hasOwn(EXPECTED, own) ? EXPECTED[own] : undefined) ??
    sentenceOf(schema as Bounds) ??
    message.replace(/^Expected /, '');
  if (!quotes && value !== undefined) return badField(field, expected);
  return badValue(field, value, expected, own === 'window' ? 'a duration' : 'valid');
}

interface Bounds {
  readonly type?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly const?: unknown;
  readonly anyOf?: readonly Bounds[];
}

/** Describes a schema in words; `undefined` if it is none of the usual ones. */
function sentenceOf(schema: Bounds): string | undefined {
  const { type, minimum, maximum, anyOf } = schema;
  if (anyOf !== undefined) return anyOf.map((option) => sentenceOf(option) ?? 'another value').join(' or ');
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (type === 'boolean') return 'true or false';
  if (type === 'object') return 'an object';
  if (minimum === undefined || maximum === undefined) return undefined;
  return `a ${type === 'integer' ? 'whole number' : 'number'} from ${minimum} to ${maximum}`;
}
