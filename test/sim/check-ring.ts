import type { Violation } from './checker.js';
import type { Fault, History } from './history.js';

/** Others act for a node after this part of the suspicion time, counted from its last heartbeat. */
const ACTED_AFTER = 0.5;
/** A heartbeat precedes a pause by at most this part of it. */
const BEAT = 0.1;

/** The ring stays as it is if nothing happened but pauses so short, and so far apart, that no node acted for another. */
export function checkRing({ faults, rings = [], setting }: History): Violation[] {
  const { suspectAfterMs, delayMs, clockError } = setting;
  const longestMs = (suspectAfterMs * (ACTED_AFTER - BEAT)) / (1 + clockError) - 2 * delayMs - 2;
  const isUnnoticed = ({ kind, fromMs, toMs }: Fault, i: number): boolean => {
    const before = faults[i - 1];
    const isApart = before === undefined || fromMs - before.toMs >= suspectAfterMs;
    return kind === 'freeze' && isApart && toMs - fromMs < longestMs;
  };
  if (!faults.every(isUnnoticed)) return [];
  return rings
    .filter(({ atUp, atEnd }) => atUp !== atEnd)
    .map(({ node, atUp, atEnd }) => ({
      check: 'ring',
      message: `the ring of ${node} changed ${atEnd - atUp} times, though no pause was noticed`,
    }));
}
