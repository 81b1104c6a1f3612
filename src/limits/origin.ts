const ORIGIN = /^https?:\/\/(?:[\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])(?::(\d{1,5}))?$/;

/** Whether a text is `http://host` or `https://host`, with or without a port. A user or a path is not allowed. */
export function isOrigin(text: string): boolean {
  const match = ORIGIN.exec(text);
  if (match === null) return false;
  const port = Number(match[1] ?? 80);
  return port >= 1 && port <= 65_535;
}
