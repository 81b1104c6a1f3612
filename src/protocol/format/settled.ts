import type { Settled } from '../messages.js';
import { MAX_COST } from '../../limits/bucket/rule.js';
import { malformed } from '../../lib/byte-reader.js';
import { readList, readWhole } from './wire.js';
import { readLimit, readRemaining, readWaitMs } from './rules.js';

/**
 * Encodes a settlement as `[cost, reserved, limit, remaining, resetMs]`. 0 means unknown, 1 means unavailable, and
 * `null` means that another node is the owner.
 */
export function encodeSettled(settled: Settled | null): unknown {
  if (settled === null) return null;
  if (settled.kind !== 'settled') return settled.kind === 'unknown' ? 0 : 1;
  const { cost, reserved, limit, remaining, resetMs } = settled.settlement;
  return [cost, reserved, limit, remaining, resetMs];
}

/** @throws MalformedMessage */
export function readSettled(value: unknown): Settled | null {
  if (value === null) return null;
  if (value === 0) return { kind: 'unknown' };
  if (value === 1) return { kind: 'unavailable' };
  if (!Array.isArray(value)) throw malformed('settlement', 'null, 0, 1, or a settlement');
  const wire = readList(value, 5, 5, 'settlement');
  const settlement = {
    cost: readWhole(wire[0], 0, MAX_COST, 'cost'),
    reserved: readWhole(wire[1], 1, MAX_COST, 'reserved cost'),
    limit: readLimit(wire[2]),
    remaining: readRemaining(wire[3]),
    resetMs: readWaitMs(wire[4]),
  };
  return { kind: 'settled', settlement };
}
