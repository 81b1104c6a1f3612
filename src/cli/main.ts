import { CommanderError } from 'commander';
import { SettingsError } from '../app/settings/settings.js';
import { createProgram, unknownCommand } from './program.js';

const [name = '', ...args] = process.argv.slice(2);
try {
  await run();
} catch (error) {
  process.stderr.write(`tokenring: ${await failureOf(error)}\n`);
  // Exit at once: servers and timers that started before the failure would keep the process alive.
  process.exit(2);
}

async function run(): Promise<void> {
  const program = createProgram(args);
  const names = program.commands.map((command) => command.name());
  if (name === '') throw new SettingsError(`expected a command: ${names.join(', ')}; see tokenring --help`);
  if (args.length === 1 && (args[0] === '--help' || args[0] === '-h') && names.includes(name))
    return program.commands.find((command) => command.name() === name)!.outputHelp();
  try {
    await program.parseAsync([name, ...args], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Commander ends so after it has shown its help or the version.
    if (error.exitCode !== 0) throw unknownCommand(name, error);
  }
}

async function failureOf(error: unknown): Promise<string> {
  // With too few descriptors Node cannot even load the program, or the file that explains what failed.
  try {
    return tooManyFiles(error) ?? (await import('./run/start-failure.js')).startFailure(error);
  } catch (loading) {
    return tooManyFiles(loading) ?? String(error);
  }
}

function tooManyFiles(error: unknown): string | undefined {
  const { code } = error as NodeJS.ErrnoException;
  const isMeant = code === 'EMFILE' || code === 'ENFILE';
  return isMeant ? `too many open files (${code}); raise the limit: ulimit -n 65536` : undefined;
}
