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
