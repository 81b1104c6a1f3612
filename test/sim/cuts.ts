/** The part of a cut where etcd is. */
export const ETCD = 'etcd';

/** All ways to divide a set. */
export function partitionsOf(ids: readonly string[]): string[][][] {
  const [first, ...rest] = ids;
  if (first === undefined) return [[]];
  return partitionsOf(rest).flatMap((sides) => [
    [[first], ...sides],
    ...sides.map((_, i) => sides.map((side, j) => (i === j ? [first, ...side] : side))),
  ]);
}

/** Each partition with etcd on each of its sides, and on none. */
export function cutsOf(ids: readonly string[]): string[][][] {
  return partitionsOf(ids).flatMap((sides) => [
    [...sides, [ETCD]],
    ...sides.map((_, i) => sides.map((side, j) => (i === j ? [...side, ETCD] : side))),
  ]);
}
