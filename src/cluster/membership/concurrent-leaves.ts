/**
 * Two that leave at once may each count on the other to have its clients: until both have sent theirs on, nobody has them all.
 * @param onConcurrentLeave is told when several leave, and when none does any more
 * @returns to be called with the number of those that leave now
 */
export function watchConcurrentLeaves(onConcurrentLeave: (leaving: boolean) => void): (leavers: number) => void {
  let severalLeave = false;
  return (leavers) => {
    // The last of them, too: the one that has left may have been counted on until a moment ago.
    const several = leavers > (severalLeave ? 0 : 1);
    if (several === severalLeave) return;
    severalLeave = several;
    onConcurrentLeave(severalLeave);
  };
}
