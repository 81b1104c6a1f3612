const NONE = '–';
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });
const SPANS = /** @type {const} */ ([
  [86_400_000, 'd'],
  [3_600_000, 'h'],
  [60_000, 'm'],
  [1_000, 's'],
]);

/** @typedef {number | null | undefined} Figure */

/** @param {Figure} value */
const isNone = (value) => value === null || value === undefined || !Number.isFinite(value);

/** A number in at most about five characters. @param {Figure} value */
export function count(value) {
  if (isNone(value)) return NONE;
  const number = Number(value);
  if (number >= 10_000) return compact.format(number);
  return (number < 10 ? tenths : whole).format(number);
}

/** @param {Figure} value a fraction, 0 to 1 */
export function percent(value) {
  return isNone(value) ? NONE : `${tenths.format(Number(value) * 100)}%`;
}

/** @param {Figure} ms */
export function duration(ms) {
  if (isNone(ms)) return NONE;
  const value = Number(ms);
  if (value > 0 && value < 1) return `${whole.format(value * 1_000)} µs`;
  if (value < 1_000) return `${(value < 10 ? tenths : whole).format(value)} ms`;
  return long(value);
}

/** A whole window or a wait in its largest units, such as `1h` or `2d 4h`. @param {number} ms */
export function long(ms) {
  const at = SPANS.findIndex(([span]) => ms >= span);
  const [span, unit] = SPANS[at] ?? [1, ' ms'];
  const [lessSpan, lessUnit] = (at < 0 ? undefined : SPANS[at + 1]) ?? [Infinity, ''];
  const rest = Math.floor((ms % span) / lessSpan);
  if (unit === 's') return `${tenths.format(ms / 1_000)} s`;
  return `${Math.floor(ms / span)}${unit}${rest > 0 ? ` ${rest}${lessUnit}` : ''}`;
}

/** @param {Figure} value */
export function bytes(value) {
  if (isNone(value)) return NONE;
  const mib = Number(value) / 2 ** 20;
  return mib >= 1_024 ? `${tenths.format(mib / 1_024)} GiB` : `${whole.format(mib)} MiB`;
}

/** @param {number} atMs since 1970 */
export function clock(atMs) {
  const date = new Date(atMs);
  return date.toLocaleTimeString('en-GB', { hour12: false });
}

/** @param {number} amount @param {string} one */
export function plural(amount, one) {
  return `${whole.format(amount)} ${one}${amount === 1 ? '' : 's'}`;
}
