const warned = new Set<string>();
const MAX_WARNINGS = 100;

/** Emits a warning of the process, once for each text. */
export function warnOnce(message: string, code: string): void {
  // Codes and messages may come from a node, so they must not fill the memory.
  if (warned.has(message) || warned.size >= MAX_WARNINGS) return;
  warned.add(message);
  process.emitWarning(message, { type: 'TokenringWarning', code });
}
