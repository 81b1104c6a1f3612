import { runCommand, wantsHelp } from './command.js';
import { COMMANDS, NODE_COMMANDS } from './commands.js';
import { nearestName } from '../lib/mistake.js';
import { VERSION } from '../lib/version.js';

const [command = '', ...args] = process.argv.slice(2);
try {
  await run();
} catch (error) {
  process.stderr.write(`tokenring: ${await failureOf(error)}\n`);
  // Exit at once: servers and timers that started before the failure would keep the process alive.
  process.exit(2);
}

async function run(): Promise<void> {
  if (command === 'serve' || command === 'cluster') {
    if (wantsHelp(args)) return void process.stdout.write((await import('./usage.js')).nodeUsage(command));
    if (command === 'serve') return (await import('./run/serve.js')).serve(args, process.env);
    return (await import('./run/cluster.js')).runCluster(args, process.env);
  }
  if (Object.hasOwn(COMMANDS, command)) {
    process.exitCode = await runCommand(command, await COMMANDS[command]!(), args, process.env);
    return;
  }
  if (command === '--version' || command === '-v') return void process.stdout.write(`${VERSION}\n`);
  if (['help', '--help', '-h'].includes(command))
    return void process.stdout.write(await (await import('./usage.js')).overview());
  process.stderr.write(`tokenring: ${unknownCommand()}\n`);
  process.exitCode = 2;
}

function unknownCommand(): string {
  const names = [...NODE_COMMANDS, ...Object.keys(COMMANDS)];
  if (command === '') return `expected a command: ${names.join(', ')}; see tokenring --help`;
  const nearest = nearestName(command, names);
  const hint = nearest === undefined ? 'see tokenring --help' : `did you mean ${nearest}?`;
  return `unknown command ${JSON.stringify(command)}; ${hint}`;
}

async function failureOf(error: unknown): Promise<string> {
  // With too few descriptors Node cannot even load the program.
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'EMFILE' || code === 'ENFILE') return `too many open files (${code}); raise the limit: ulimit -n 65536`;
  return (await import('./run/start-failure.js')).startFailure(error);
}
