import type { Violation } from './checker.js';
import type { History } from './history.js';

/** A second process under the id of one that runs finds that out, and does not start. */
export function checkIdentity({ duplicates = [] }: History): Violation[] {
  return duplicates
    .filter(({ refused }) => !refused)
    .map(({ node, atMs }) => ({ check: 'identity', message: `another ${node} was not refused at ${atMs}` }));
}
