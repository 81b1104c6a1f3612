import { execFile } from 'node:child_process';

interface Report {
  readonly message?: string;
  readonly error?: { readonly summary?: string };
  readonly vulnerabilities?: Readonly<Record<string, { readonly severity: string; readonly range: string }>>;
}

/** What a registry knows of the packages that users install; or why it cannot be asked, which is not that it knows nothing. */
export type Audit =
  | { readonly kind: 'told'; readonly weaknesses: readonly string[] }
  | { readonly kind: 'untold'; readonly reason: string };

/** Asks the registry of this machine's npm, unless `flags` name another. Takes at most `timeoutMs`. */
export async function npmAudit(timeoutMs: number, ...flags: readonly string[]): Promise<Audit> {
  const { stdout, failure } = await new Promise<{ stdout: string; failure: string | undefined }>((resolve) => {
    // It ends with 1 both where it has found something and where it could not ask: what it prints tells.
    execFile('npm', ['audit', '--omit=dev', '--json', ...flags], { timeout: timeoutMs }, (error, text) =>
      resolve({
        stdout: text,
        failure: error === null ? undefined : error.killed === true ? 'no answer' : error.message,
      }),
    );
  });
  let report: Report;
  try {
    report = JSON.parse(stdout) as Report;
  } catch {
    return { kind: 'untold', reason: failure ?? 'no JSON' };
  }
  const { vulnerabilities, message, error } = report;
  if (vulnerabilities === undefined)
    return { kind: 'untold', reason: message ?? error?.summary ?? failure ?? 'no answer' };
  const weaknesses = Object.entries(vulnerabilities).map(
    ([name, { severity, range }]) => `${name} ${range}: ${severity}`,
  );
  return { kind: 'told', weaknesses };
}
