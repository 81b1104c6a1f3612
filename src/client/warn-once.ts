const warned = new Set<string>();
const MAX_WARNINGS = 100;

/** Emits a warning of the process, or of the console where there is no process. Once for each text. */
export function warnOnce(message: string, code: string): void {
  // Codes and messages may come from a node, so they must not fill the memory.
  if (warned.has(message) || warned.size >= MAX_WARNINGS) return;
  warned.add(message);
  const { process } = globalThis as { process?: Partial<NodeJS.Process> };
  if (process?.emitWarning === undefined) console.warn(`TokenringWarning [${code}]: ${message}`);
  else process.emitWarning(message, { type: 'TokenringWarning', code });
}
