import { missed, type Figure, type RowResult } from './verdict.js';

export function heading(): string {
  return '| fault | failed requests | admitted over the limit | back to normal | |\n|---|---|---|---|---|\n';
}

/** A row of the table. A figure that is beyond its bound is marked. */
export function line(fault: string, result: RowResult): string {
  const { failed, over, back } = result;
  const cells = [fault, cell(failed), cell(over), back === undefined ? '–' : cell(back)];
  return `| ${cells.join(' | ')} | ${missed(result).length === 0 ? 'pass' : 'FAIL'} |\n`;
}

function cell({ found, bound, ok }: Figure): string {
  return `${found} (${bound})${ok ? '' : ' ✗'}`;
}

/** What else there is to say of a row, below the table. */
export function remarks(fault: string, { also, notes }: RowResult): string {
  const lines = [...also.map((one) => `${one.ok ? '✓' : '✗'} ${one.what}: ${cell(one)}`), ...notes];
  return `${fault}\n${lines.map((text) => `  ${text}\n`).join('')}`;
}
