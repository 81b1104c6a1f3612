/** The key of something that a client has by an id. The length keeps ("a", "bc") and ("ab", "c") apart. */
export function clientEntryKey(clientId: string, id: string): string {
  return `${clientId.length}:${clientId}${id}`;
}
