/**
 * A second reading of the request table in the contract, written without looking at the first: slow, and plain enough to be
 * checked by eye. Every complaint is the path of a field that is wrong; none means that the request is fine.
 */
export function complaints(request: unknown): string[] {
  if (!isObject(request)) return ['body'];
  const wrong: string[] = [];
  const known = [
    'clientId',
    'scope',
    'limit',
    'window',
    'windowMs',
    'burst',
    'algorithm',
    'limits',
    'policy',
    'cost',
    'peek',
    'requestId',
    'durability',
  ];
  for (const name of Object.getOwnPropertyNames(request))
    if (!known.includes(name)) wrong.push(name === '' ? 'body' : name);

  if (!isText(request['clientId'], 256)) wrong.push('clientId');
  if (has(request, 'scope') && !isText(request['scope'], 128)) wrong.push('scope');
  if (has(request, 'requestId') && !isText(request['requestId'], 128)) wrong.push('requestId');
  if (has(request, 'cost') && !isWhole(request['cost'], 1, 1e9)) wrong.push('cost');
  if (has(request, 'peek') && typeof request['peek'] !== 'boolean') wrong.push('peek');

  if (has(request, 'durability') && request['durability'] !== 'replicated') wrong.push('durability');

  if (has(request, 'policy')) wrong.push('policy'); // No node has policies yet.
  if (has(request, 'limits')) wrong.push(...complaintsOfLimits(request['limits']));
  const ownFields = ['limit', 'window', 'windowMs', 'burst', 'algorithm'].filter((name) => has(request, name));
  if (has(request, 'limits') || has(request, 'policy')) {
    wrong.push(...ownFields);
    if (has(request, 'limits') && has(request, 'policy')) wrong.push('policy');
  } else {
    wrong.push(...complaintsOfLimit(request, ''));
  }
  return wrong;
}

function complaintsOfLimits(limits: unknown): string[] {
  if (!Array.isArray(limits) || limits.length < 1 || limits.length > 8) return ['limits'];
  const wrong: string[] = [];
  const buckets: string[] = [];
  limits.forEach((limit: unknown, i) => {
    const path = `limits[${i}]`;
    if (!isObject(limit)) return wrong.push(path);
    for (const name of Object.getOwnPropertyNames(limit)) {
      if (!['limit', 'window', 'windowMs', 'burst', 'algorithm'].includes(name)) wrong.push(`${path}.${name}`);
    }
    wrong.push(...complaintsOfLimit(limit, `${path}.`));
    const bucket = `${has(limit, 'algorithm') ? String(limit['algorithm']) : 'token-bucket'} ${windowMsOf(limit['windowMs'] ?? limit['window'])}`;
    if (buckets.includes(bucket)) wrong.push(`${path}.window`);
    return buckets.push(bucket);
  });
  return wrong;
}

function complaintsOfLimit(limit: Record<string, unknown>, path: string): string[] {
  const wrong: string[] = [];
  if (!isWhole(limit['limit'], 0, 1e9)) wrong.push(`${path}limit`);
  const { window, windowMs } = limit;
  if (has(limit, 'window') && has(limit, 'windowMs')) wrong.push(`${path}windowMs`);
  if (has(limit, 'window') && Number.isNaN(windowMsOf(window))) wrong.push(`${path}window`);
  if (has(limit, 'windowMs') && (typeof windowMs !== 'number' || Number.isNaN(windowMsOf(windowMs))))
    wrong.push(`${path}windowMs`);
  if (!has(limit, 'window') && !has(limit, 'windowMs')) wrong.push(`${path}window`);
  if (has(limit, 'burst') && !isWhole(limit['burst'], 1, 1e9)) wrong.push(`${path}burst`);
  const algorithm = has(limit, 'algorithm') ? limit['algorithm'] : 'token-bucket';
  if (algorithm !== 'token-bucket' && algorithm !== 'sliding-window') wrong.push(`${path}algorithm`);
  if (has(limit, 'burst') && algorithm === 'sliding-window') wrong.push(`${path}burst`);
  return wrong;
}

/** Whole ms of a window from 1 ms to 366 days, or NaN. */
export function windowMsOf(window: unknown): number {
  if (isWhole(window, 1, 366 * 24 * 3600 * 1000)) return window;
  if (typeof window !== 'string') return NaN;
  for (const [unit, ms] of [
    ['ms', 1],
    ['s', 1000],
    ['m', 60_000],
    ['h', 3_600_000],
    ['d', 86_400_000],
  ] as const) {
    const count = window.slice(0, -unit.length);
    const isCount =
      count !== '' && count.length <= 11 && count.split('').every((digit) => '0123456789'.includes(digit));
    if (window.endsWith(unit) && isCount) {
      return isWhole(Number(count) * ms, 1, 366 * 24 * 3600 * 1000) ? Number(count) * ms : NaN;
    }
  }
  return NaN;
}

function has(request: Record<string, unknown>, name: string): boolean {
  return Object.hasOwn(request, name) && request[name] !== undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isWhole(value: unknown, min: number, max: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
}

function isText(value: unknown, maxBytes: number): boolean {
  if (typeof value !== 'string') return false;
  const bytes = new TextEncoder().encode(value);
  // What is lost on the way to UTF-8 and back had no place there: half a surrogate pair.
  return (
    bytes.length >= 1 &&
    bytes.length <= maxBytes &&
    new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes) === value
  );
}
