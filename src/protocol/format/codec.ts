import { malformed, type ByteReader } from '../../lib/byte-reader.js';
import type { ByteWriter } from '../../lib/byte-writer.js';

/** Writes and reads values of one type. The parts of a message are made of codecs, so each field is named once. */
export interface Codec<T> {
  readonly write: (out: ByteWriter, value: T) => void;
  /** @throws MalformedMessage for bytes that `write` does not write for any valid value */
  readonly read: (from: ByteReader) => T;
}

/** A whole number. Beyond 2^53 every double is whole. */
export function whole(min: number, max: number, what: string): Codec<number> {
  return { write: (out, value) => out.whole(value), read: (from) => from.whole(min, max, what) };
}

/** Any number from `min` to `max`. */
export function real(min: number, max: number, what: string): Codec<number> {
  return { write: (out, value) => out.double(value), read: (from) => from.double(min, max, what) };
}

/** A string of `minBytes` to `maxBytes` in UTF-8. */
export function text(minBytes: number, maxBytes: number, what: string): Codec<string> {
  return { write: (out, value) => out.text(value), read: (from) => from.text(minBytes, maxBytes, what) };
}

export const flag: Codec<boolean> = {
  write: (out, value) => out.byte(value ? 1 : 0),
  read: (from) => from.flags(1, 'flag') === 1,
};

export function oneOf<T extends string>(values: readonly T[], what: string): Codec<T> {
  return {
    write: (out, value) => out.byte(values.indexOf(value)),
    read(from) {
      const value = values[from.byte(what)];
      if (value === undefined) throw malformed(what, `one of ${values.length}`);
      return value;
    },
  };
}

/** A value that may be missing. */
export function optional<T, Missing extends null | undefined>(codec: Codec<T>, missing: Missing): Codec<T | Missing> {
  return {
    write(out, value) {
      out.byte(value === missing ? 0 : 1);
      if (value !== missing) codec.write(out, value as T);
    },
    read: (from) => (from.flags(1, 'flag') === 0 ? missing : codec.read(from)),
  };
}

export function list<T>(codec: Codec<T>, max: number, what: string): Codec<readonly T[]> {
  return {
    write(out, values) {
      out.whole(values.length);
      for (const value of values) codec.write(out, value);
    },
    read(from) {
      const count = from.whole(0, max, `number of ${what}`);
      const values: T[] = [];
      while (values.length < count) values.push(codec.read(from));
      return values;
    },
  };
}

/** A value that is written as a constant, so not at all. */
export function constant<T>(value: T): Codec<T> {
  return { write: () => undefined, read: () => value };
}

/** An object with these fields, in their order. */
export function object<T extends object>(fields: { readonly [K in keyof T]-?: Codec<T[K]> }): Codec<T> {
  const entries = Object.entries(fields) as [keyof T, Codec<T[keyof T]>][];
  return {
    write(out, value) {
      for (const [name, codec] of entries) codec.write(out, value[name]);
    },
    read(from) {
      const value: Partial<T> = {};
      for (const [name, codec] of entries) value[name] = codec.read(from);
      return value as T;
    },
  };
}

/** A value in another form. @param read throws MalformedMessage where the form has no such value */
export function mapped<T, Form>(codec: Codec<Form>, write: (value: T) => Form, read: (form: Form) => T): Codec<T> {
  return { write: (out, value) => codec.write(out, write(value)), read: (from) => read(codec.read(from)) };
}
