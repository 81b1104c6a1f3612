export function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The median and the range of the middle half, as in `0.962 (0.941 to 0.975)`. */
export function spread(
  values: readonly number[],
  format: (value: number) => string = (value) => value.toFixed(3),
): string {
  const sorted = [...values].sort((x, y) => x - y);
  const quarter = Math.floor(sorted.length / 4);
  const [low, high] = [sorted[quarter]!, sorted[sorted.length - 1 - quarter]!];
  return `${format(median(values))} (${format(low)} to ${format(high)})`;
}
