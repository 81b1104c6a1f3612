/** The code of an error of the program, also of a copy of it with a fault: there, the class of the error is another. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
