import { Constant, Named, Status, ErrorText, type Value } from './value.js';

interface CommandInfo {
  /** Smallest and largest number of arguments, the name included. */
  readonly min: number;
  readonly max: number;
  readonly summary: string;
  /** Whether the first argument is a client, which Redis calls a key. */
  readonly hasKey?: true;
}

/**
 * Every command. The parts that decide are in `questions.ts`, those of a transaction in `transaction.ts`, the others in
 * `commands.ts`.
 */
export const COMMANDS: Readonly<Record<string, CommandInfo>> = {
  'TR.ALLOW': { min: 2, max: 64, hasKey: true, summary: 'Decides one request of a client' },
  'TR.SETTLE': { min: 3, max: 3, summary: 'Replaces a reserved cost by the final one' },
  'TR.DESCRIBE': { min: 2, max: 2, hasKey: true, summary: 'Returns the consumption of a client' },
  'CL.THROTTLE': { min: 5, max: 6, hasKey: true, summary: 'Decides as redis-cell does' },
  THROTTLE: { min: 5, max: 6, hasKey: true, summary: 'Another name of CL.THROTTLE' },
  AUTH: { min: 2, max: 3, summary: 'Shows a token' },
  CLIENT: { min: 2, max: 64, summary: 'Names the connection' },
  COMMAND: { min: 1, max: 64, summary: 'Lists the commands' },
  DISCARD: { min: 1, max: 1, summary: 'Forgets the commands since MULTI' },
  ECHO: { min: 2, max: 2, summary: 'Returns its argument' },
  EXEC: { min: 1, max: 1, summary: 'Runs the commands since MULTI in order' },
  HELLO: { min: 1, max: 64, summary: 'Chooses the version of the protocol' },
  INFO: { min: 1, max: 64, summary: 'Describes the server' },
  MULTI: { min: 1, max: 1, summary: 'Queues the commands until EXEC' },
  PING: { min: 1, max: 2, summary: 'Returns PONG' },
  QUIT: { min: 1, max: 64, summary: 'Ends the connection' },
  RESET: { min: 1, max: 1, summary: 'Forgets the token, the name, and the version of the protocol' },
  SELECT: { min: 2, max: 2, summary: 'Chooses database 0, the only one' },
};

/** Libraries send these two on each new connection. */
const ALL_INFOS = new Constant(Object.keys(COMMANDS).map(infoOf));
const ALL_DOCS = new Constant(docsOfAll(Object.keys(COMMANDS)));

/** Answers `COMMAND`, `COMMAND COUNT`, `COMMAND LIST`, `COMMAND DOCS [name…]`, and `COMMAND INFO [name…]`. */
export function describeCommands(args: readonly string[]): Value {
  const all = Object.keys(COMMANDS);
  const named = args.length > 2 ? args.slice(2).map((name) => name.toUpperCase()) : all;
  switch (args[1]?.toUpperCase()) {
    case undefined:
      return ALL_INFOS;
    case 'COUNT':
      return all.length;
    case 'LIST':
      return all.map((name) => name.toLowerCase());
    case 'INFO':
      return named.map((name) => (Object.hasOwn(COMMANDS, name) ? infoOf(name) : null));
    case 'DOCS':
      return named === all ? ALL_DOCS : docsOfAll(named);
    default:
      return new ErrorText('ERR unknown subcommand; use COMMAND COUNT, LIST, INFO, or DOCS');
  }
}

/** As Redis describes a command: its name, arity, flags, and the places of its keys. */
function infoOf(name: string): Value {
  const { min, max, hasKey } = COMMANDS[name]!;
  const keys = hasKey === true ? [1, 1, 1] : [0, 0, 0];
  return [name.toLowerCase(), min === max ? min : -min, [new Status('fast')], ...keys];
}

function docsOfAll(names: readonly string[]): Named {
  const known = names.filter((name) => Object.hasOwn(COMMANDS, name));
  return new Named(known.map((name) => [name.toLowerCase(), docsOf(name)]));
}

function docsOf(name: string): Value {
  return new Named([
    ['summary', COMMANDS[name]!.summary],
    ['group', 'module'],
    ['module', 'tokenring'],
  ]);
}
