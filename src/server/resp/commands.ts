import type { Role } from '../edge/access.js';
import type { ClientCalls } from '../edge/client-calls.js';
import type { ServerContext } from '../edge/server-context.js';
import type { Session } from './session.js';
import { Constant, ErrorText, OK, RespMap, Status, wrongArity, type Value } from './value.js';

/** What commands use of the node. */
interface CommandContext {
  readonly context: Pick<ServerContext, 'requireJoined' | 'stage'>;
  readonly calls: ClientCalls;
  readonly version: string;
}

interface Command {
  /** Smallest and largest number of arguments, the name included. */
  readonly min: number;
  readonly max: number;
  readonly summary: string;
  /** Whether the first argument is a client, which Redis calls a key. */
  readonly hasKey?: true;
  /** The role that the command needs, once the node has joined. `open`: none. Default: the token of any role. */
  readonly role?: Role | 'open';
  /**
   * Answers the command. The arguments include the name. Absent for the commands that decide, in `check-commands.ts`, and
   * those of a transaction, in `transaction.ts`.
   */
  readonly run?: (args: readonly string[], session: Session, node: CommandContext) => Value | Promise<Value>;
}

export const COMMANDS: Readonly<Record<string, Command>> = {
  'TR.ALLOW': { min: 2, max: 64, hasKey: true, summary: 'Decides one request of a client' },
  'TR.SETTLE': { min: 3, max: 3, summary: 'Replaces a reserved cost by the final one', role: 'decide', run: settle },
  'TR.DESCRIBE': {
    ...{ min: 2, max: 2, hasKey: true, summary: 'Returns the consumption of a client' },
    ...{ role: 'read', run: describe },
  },
  'CL.THROTTLE': { min: 5, max: 6, hasKey: true, summary: 'Decides as redis-cell does' },
  THROTTLE: { min: 5, max: 6, hasKey: true, summary: 'Another name of CL.THROTTLE' },
  AUTH: { min: 2, max: 3, summary: 'Shows a token', role: 'open', run: auth },
  CLIENT: { min: 2, max: 64, summary: 'Names the connection', run: client },
  COMMAND: { min: 1, max: 64, summary: 'Lists the commands', run: describeCommands },
  DISCARD: { min: 1, max: 1, summary: 'Forgets the commands since MULTI' },
  ECHO: { min: 2, max: 2, summary: 'Returns its argument', run: ([, text]) => text! },
  EXEC: { min: 1, max: 1, summary: 'Runs the commands since MULTI in order' },
  HELLO: { min: 1, max: 64, summary: 'Chooses the version of the protocol', role: 'open', run: hello },
  INFO: { min: 1, max: 64, summary: 'Describes the server', run: info },
  MULTI: { min: 1, max: 1, summary: 'Queues the commands until EXEC' },
  PING: { min: 1, max: 2, summary: 'Returns PONG', run: ([, text]) => text ?? new Status('PONG') },
  QUIT: { min: 1, max: 64, summary: 'Ends the connection', role: 'open', run: quit },
  RESET: {
    ...{ min: 1, max: 1, summary: 'Forgets the token, the name, and the version of the protocol' },
    ...{ role: 'open', run: reset },
  },
  SELECT: { min: 2, max: 2, summary: 'Chooses database 0, the only one', run: select },
};

/** Clients choose by this version which commands they send. It is the first with all that they send at their start. */
const REDIS_VERSION = '7.2.0';
const NO_DATABASE = new ErrorText('ERR DB index is out of range; Tokenring has database 0 alone');
const UNKNOWN_SUBCOMMAND = 'ERR unknown subcommand';
const WRONG_PASS = new ErrorText('WRONGPASS invalid username-password pair or user is disabled.');
const NO_AUTH_IN_HELLO = new ErrorText(
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> ' +
    'option can be used to authenticate the client and select the RESP protocol version at the same time',
);
const BAD_NAME = new ErrorText('ERR Client names cannot contain spaces, newlines or special characters.');

/** Answers commands. */
export class Commands {
  constructor(private readonly node: CommandContext) {}

  /** @returns the error of a command that does not exist, or has too many or too few arguments */
  refusal(name: string, args: readonly string[]): ErrorText | undefined {
    if (!this.has(name)) return unknownCommand(args[0]!);
    const { min, max } = COMMANDS[name]!;
    return args.length < min || args.length > max ? wrongArity(name) : undefined;
  }

  /**
   * Answers a command that is not refused. @throws TokenringError, at once or by rejection, in place of an answer
   * @param name in capital letters
   */
  run(name: string, args: readonly string[], session: Session): Value | Promise<Value> {
    const { role, run } = COMMANDS[name]!;
    if (role === undefined) session.requireToken();
    else if (role !== 'open') {
      session.requireRole(role);
      this.node.context.requireJoined();
    }
    return run!(args, session, this.node);
  }

  /** Whether there is a command of this name. */
  has(name: string): boolean {
    return Object.hasOwn(COMMANDS, name);
  }
}

function hello(args: readonly string[], session: Session, { version }: CommandContext): Value {
  const [, protocol] = args;
  if (protocol !== undefined && protocol !== '2' && protocol !== '3')
    return new ErrorText('NOPROTO unsupported protocol version; use 2 or 3');
  let name: string | undefined;
  for (let i = 2; i < args.length; i += 1) {
    const option = args[i]!.toUpperCase();
    if (option === 'AUTH' && i + 2 < args.length) {
      if (!session.authenticate(args[i + 2]!, args[i + 1])) return WRONG_PASS;
      i += 2;
    } else if (option === 'SETNAME' && i + 1 < args.length) {
      name = args[i + 1]!;
      if (!isName(name)) return BAD_NAME;
      i += 1;
    } else return new ErrorText(`ERR Syntax error in HELLO option '${args[i]!.slice(0, 40)}'`);
  }
  try {
    session.requireToken();
  } catch {
    return NO_AUTH_IN_HELLO;
  }
  if (protocol !== undefined) session.protocol = protocol === '3' ? 3 : 2;
  if (name !== undefined) session.name = name;
  return new RespMap([
    ['server', 'tokenring'],
    ['version', version],
    ['proto', session.protocol],
    ['id', session.id],
    ['mode', 'standalone'],
    ['role', 'master'],
    ['modules', []],
  ]);
}

function auth(args: readonly string[], session: Session): Value {
  const known = args.length === 2 ? session.authenticate(args[1]!, undefined) : session.authenticate(args[2]!, args[1]);
  return known ? OK : WRONG_PASS;
}

function client(args: readonly string[], session: Session): Value {
  switch (args[1]?.toUpperCase()) {
    case 'SETNAME':
      if (args.length !== 3) return wrongArity('client|setname');
      if (!isName(args[2]!)) return BAD_NAME;
      session.name = args[2]!;
      return OK;
    case 'GETNAME':
      return session.name === '' ? null : session.name;
    case 'SETINFO':
      // Libraries tell their names here, which nothing shows.
      return args.length === 4 ? OK : wrongArity('client|setinfo');
    case 'ID':
      return session.id;
    default:
      return new ErrorText(`${UNKNOWN_SUBCOMMAND}; use CLIENT SETNAME, GETNAME, SETINFO, or ID`);
  }
}

function info(_args: readonly string[], _session: Session, { context, version }: CommandContext): Value {
  // Clients wait until `loading` is 0.
  const loading = context.stage() === 'joining' ? 1 : 0;
  const server = [
    '# Server',
    `redis_version:${REDIS_VERSION}`,
    `tokenring_version:${version}`,
    'redis_mode:standalone',
  ];
  const rest = ['# Persistence', `loading:${loading}`, '# Replication', 'role:master', 'connected_slaves:0'];
  return `${[...server, '', ...rest.slice(0, 2), '', ...rest.slice(2)].join('\r\n')}\r\n`;
}

function quit(_args: readonly string[], session: Session): Value {
  session.isEnding = true;
  return OK;
}

function reset(_args: readonly string[], session: Session): Value {
  session.reset();
  return new Status('RESET');
}

function select([, database]: readonly string[]): Value {
  return database === '0' ? OK : NO_DATABASE;
}

async function settle(args: readonly string[], _session: Session, { calls }: CommandContext): Promise<Value> {
  const [, name, cost = ''] = args;
  const number = /^-?\d{1,15}$/.test(cost) ? Number(cost) : cost;
  const { reservation, clientId, settlement } = await calls.settle({ reservation: name, cost: number });
  return new RespMap(Object.entries({ reservation, clientId, ...settlement }));
}

async function describe(args: readonly string[], _session: Session, { calls }: CommandContext): Promise<Value> {
  const { clientId, owner, buckets } = await calls.describe(args[1]!);
  const known = buckets.map((bucket) => {
    return new RespMap(Object.entries(bucket).filter(([, value]) => value !== undefined));
  });
  return new RespMap(Object.entries({ clientId, owner, buckets: known }));
}

/** Printable ASCII without spaces, as in Redis, of bounded length. */
function isName(name: string): boolean {
  return /^[!-~]{0,128}$/.test(name);
}

function unknownCommand(name: string): ErrorText {
  const names = Object.keys(COMMANDS).filter((one) => one.startsWith('TR.') || one.startsWith('CL.'));
  return new ErrorText(`ERR unknown command '${name.slice(0, 64)}'; this is Tokenring: use ${names.join(', ')}`);
}

/** Libraries send these two on each new connection. */
const ALL_INFOS = new Constant(Object.keys(COMMANDS).map(infoOf));
const ALL_DOCS = new Constant(docsOfAll(Object.keys(COMMANDS)));

/** Answers `COMMAND`, `COMMAND COUNT`, `COMMAND LIST`, `COMMAND DOCS [name…]`, and `COMMAND INFO [name…]`. */
function describeCommands(args: readonly string[]): Value {
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

function docsOfAll(names: readonly string[]): RespMap {
  const known = names.filter((name) => Object.hasOwn(COMMANDS, name));
  return new RespMap(known.map((name) => [name.toLowerCase(), docsOf(name)]));
}

function docsOf(name: string): Value {
  return new RespMap([
    ['summary', COMMANDS[name]!.summary],
    ['group', 'module'],
    ['module', 'tokenring'],
  ]);
}
