/**
 * `text.charCodeAt(index)`. V8 knows several kinds of strings: flat, joined, sliced, internalized. Where a loop has met
 * more than one kind, it looks the method up for each character, which took a sixth of a decision in process. This
 * function is found once.
 */
// eslint-disable-next-line @typescript-eslint/unbound-method -- `call` passes the text as `this`
export const charCodeAt = Function.prototype.call.bind(String.prototype.charCodeAt) as (
  text: string,
  index: number,
) => number;

/** Formats JSON in ASCII. Other characters become escapes. */
export function asciiJson(value: unknown): string {
  const escape = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value).replace(/[^ -~]/g, escape);
}
