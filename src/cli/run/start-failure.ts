import { TokenringError } from '../../lib/error.js';
import { WorkerFailure } from '../../app/group/supervisor.js';
import { SettingsError } from '../../app/settings/settings.js';
import { StoreError } from '../../store/store.js';

/** Describes a failed start: one line for an expected failure, the stack for any other. */
export function startFailure(error: unknown): string {
  const { syscall, message, stack } = error as NodeJS.ErrnoException;
  const expected =
    error instanceof SettingsError ||
    error instanceof StoreError ||
    error instanceof TokenringError ||
    error instanceof WorkerFailure ||
    syscall === 'listen' ||
    syscall === 'getaddrinfo';
  return expected ? message : String(stack);
}
