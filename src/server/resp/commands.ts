import type { Role } from '../edge/access/access.js';
import type { ClientCalls } from '../edge/client-calls.js';
import { notJoined } from '../edge/server-context.js';
import { COMMANDS, describeCommands } from './command-table.js';
import type { Session } from './session.js';
import { ErrorText, Named, OK, Status, wrongArity, type Value } from './value.js';

export interface CommandsDeps {
  readonly calls: ClientCalls;
  readonly version: string;
  /** Whether the node has joined the ring. Before, it cannot decide. */
  readonly hasJoined: () => boolean;
}

/** Answers a command that asks for no decision. The arguments include the name. */
type Run = (args: readonly string[], session: Session) => Value | Promise<Value>;

export interface Commands {
  /**
   * Answers a command. @throws TokenringError, at once or by rejection, in place of an answer
   * @param name in capital letters
   */
  run(name: string, args: readonly string[], session: Session): Value | Promise<Value>;
  /** Whether there is a command of this name. */
  has(name: string): boolean;
}

/** Clients choose by this version which commands they send. It is the first with all that they send at their start. */
const REDIS_VERSION = '7.2.0';
const NO_DATABASE = new ErrorText('ERR DB index is out of range; Tokenring has database 0 alone');
const UNKNOWN_SUBCOMMAND = 'ERR unknown subcommand';
const WRONG_PASS = new ErrorText('WRONGPASS invalid username-password pair or user is disabled.');
const NO_AUTH_IN_HELLO = new ErrorText(
  'NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> ' +
    'option can be used to authenticate the client and select the RESP protocol version at the same time',
);

export function createCommands({ calls, version, hasJoined }: CommandsDeps): Commands {
  /** Requires that the node has joined, and that the connection may use the role. */
  function admitted(role: Role, run: Run): Run {
    return (args, session) => {
      session.require(role);
      if (!hasJoined()) throw notJoined();
      return run(args, session);
    };
  }

  function hello(args: readonly string[], session: Session): Value {
    const [, protocol] = args;
    if (protocol !== undefined && protocol !== '2' && protocol !== '3')
      return new ErrorText('NOPROTO unsupported protocol version; use 2 or 3');
    let name: string | undefined;
    for (let i = 2; i < args.length; i += 1) {
      const option = args[i]!.toUpperCase();
      if (option === 'AUTH' && i + 2 < args.length) {
        if (!session.show(args[i + 2]!, args[i + 1])) return WRONG_PASS;
        i += 2;
      } else if (option === 'SETNAME' && i + 1 < args.length) {
        name = args[i + 1]!;
        if (!isName(name)) return BAD_NAME;
        i += 1;
      } else return new ErrorText(`ERR Syntax error in HELLO option '${args[i]!.slice(0, 40)}'`);
    }
    try {
      session.requireKnown();
    } catch {
      return NO_AUTH_IN_HELLO;
    }
    if (protocol !== undefined) session.protocol = protocol === '3' ? 3 : 2;
    if (name !== undefined) session.name = name;
    return new Named([
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
    const known = args.length === 2 ? session.show(args[1]!, undefined) : session.show(args[2]!, args[1]);
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

  function info(): Value {
    // Clients wait until `loading` is 0.
    const loading = hasJoined() ? 0 : 1;
    const server = [
      '# Server',
      `redis_version:${REDIS_VERSION}`,
      `tokenring_version:${version}`,
      'redis_mode:standalone',
    ];
    const rest = ['# Persistence', `loading:${loading}`, '# Replication', 'role:master', 'connected_slaves:0'];
    return `${[...server, '', ...rest.slice(0, 2), '', ...rest.slice(2)].join('\r\n')}\r\n`;
  }

  async function settle(args: readonly string[]): Promise<Value> {
    const [, name, cost = ''] = args;
    const number = /^-?\d{1,15}$/.test(cost) ? Number(cost) : cost;
    const { reservation, clientId, settlement } = await calls.settle({ reservation: name, cost: number });
    return new Named(Object.entries({ reservation, clientId, ...settlement }));
  }

  async function describe(args: readonly string[]): Promise<Value> {
    const { clientId, owner, buckets } = await calls.describe(args[1]!);
    const known = buckets.map((bucket) => {
      return new Named(Object.entries(bucket).filter(([, value]) => value !== undefined));
    });
    return new Named(Object.entries({ clientId, owner, buckets: known }));
  }

  const known = (run: Run): Run => {
    return (args, session) => {
      session.requireKnown();
      return run(args, session);
    };
  };
  const runs = new Map<string, Run>([
    ['HELLO', hello],
    ['AUTH', auth],
    ['QUIT', (_args, session) => ((session.ends = true), OK)],
    ['RESET', (_args, session) => (session.reset(), new Status('RESET'))],
    ['PING', known((args) => args[1] ?? new Status('PONG'))],
    ['ECHO', known((args) => args[1]!)],
    ['CLIENT', known(client)],
    ['INFO', known(info)],
    ['SELECT', known((args) => (args[1] === '0' ? OK : NO_DATABASE))],
    ['COMMAND', known(describeCommands)],
    ['TR.SETTLE', admitted('decide', settle)],
    ['TR.DESCRIBE', admitted('read', describe)],
  ]);

  return {
    has: (name) => Object.hasOwn(COMMANDS, name),
    run(name, args, session) {
      const run = runs.get(name);
      if (run === undefined) return unknownCommand(args[0]!);
      const { min, max } = COMMANDS[name]!;
      if (args.length < min || args.length > max) return wrongArity(name);
      return run(args, session);
    },
  };
}

const BAD_NAME = new ErrorText('ERR Client names cannot contain spaces, newlines or special characters.');

/** Printable ASCII without spaces, as in Redis, of bounded length. */
function isName(name: string): boolean {
  return /^[!-~]{0,128}$/.test(name);
}

function unknownCommand(name: string): ErrorText {
  const names = Object.keys(COMMANDS).filter((one) => one.startsWith('TR.') || one.startsWith('CL.'));
  return new ErrorText(`ERR unknown command '${name.slice(0, 64)}'; this is Tokenring: use ${names.join(', ')}`);
}
