import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

/** An answer as the wire has it. */
export type Reply =
  | string
  | number
  | boolean
  | null
  | readonly Reply[]
  | { readonly status: string }
  | { readonly error: string }
  | Map<Reply, Reply>;

/** Reads one answer, slowly and strictly. @returns the place behind it; `undefined` if it has not arrived in full */
function readReply(text: string, at: number): [reply: Reply, end: number] | undefined {
  const lineEnd = text.indexOf('\r\n', at);
  if (lineEnd < 0) return undefined;
  const [kind, line] = [text[at], text.slice(at + 1, lineEnd)];
  const next = lineEnd + 2;
  if (kind === '+') return [{ status: line }, next];
  if (kind === '-') return [{ error: line }, next];
  if (kind === '_') return [null, next];
  if (kind === '#') return [line === 't', next];
  if (!/^-?\d+$/.test(line)) throw new Error(`not an answer: ${JSON.stringify(text.slice(at, at + 60))}`);
  const count = Number(line);
  if (kind === ':') return [count, next];
  if (kind === '$' && count === -1) return [null, next];
  if (kind === '$') {
    if (text.length < next + count + 2) return undefined;
    if (text.slice(next + count, next + count + 2) !== '\r\n') throw new Error('a bulk string without its end');
    return [Buffer.from(text.slice(next, next + count), 'latin1').toString(), next + count + 2];
  }
  if (kind !== '*' && kind !== '%') throw new Error(`not an answer: ${JSON.stringify(text.slice(at, at + 60))}`);
  const items: Reply[] = [];
  let end = next;
  for (let i = 0; i < (kind === '%' ? 2 * count : count); i += 1) {
    const read = readReply(text, end);
    if (read === undefined) return undefined;
    items.push(read[0]);
    end = read[1];
  }
  if (kind === '*') return [items, end];
  return [new Map(items.flatMap((key, i) => (i % 2 === 0 ? [[key, items[i + 1]!] as const] : []))), end];
}

/** Reads all answers of a text. @throws Error if it has a part of one, or none */
export function repliesOf(text: string): Reply[] {
  const replies: Reply[] = [];
  for (let at = 0; at < text.length;) {
    const read = readReply(text, at);
    if (read === undefined) throw new Error('a part of an answer');
    replies.push(read[0]);
    at = read[1];
  }
  return replies;
}

/** A command as clients send it. */
export function command(...args: readonly (string | number | Buffer)[]): Buffer {
  const parts = args.map((arg) => (Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg))));
  return Buffer.concat([
    Buffer.from(`*${parts.length}\r\n`),
    ...parts.flatMap((part) => [Buffer.from(`$${part.length}\r\n`), part, Buffer.from('\r\n')]),
  ]);
}

export interface RespWire {
  readonly socket: Socket;
  send(...bytes: readonly (Buffer | string)[]): void;
  /** Resolves with the next answer. Rejects if the connection ends before it. */
  reply(): Promise<Reply>;
  /** Sends a command, and resolves with the next answer. */
  ask(...args: readonly (string | number | Buffer)[]): Promise<Reply>;
  /** Resolves with all further answers when the node has ended the connection. */
  rest(): Promise<Reply[]>;
}

export async function connectResp(port: number): Promise<RespWire> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true }).on('error', () => undefined);
  await once(socket, 'connect');
  return wireOf(socket);
}

export function wireOf(socket: Socket): RespWire {
  let text = '';
  let closed = false;
  let wake: () => void = () => undefined;
  socket.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1');
    wake();
  });
  socket.on('close', () => {
    closed = true;
    wake();
  });
  const change = (): Promise<void> => new Promise((resolve) => (wake = resolve));
  const wire: RespWire = {
    socket,
    send: (...bytes) => void socket.write(Buffer.concat(bytes.map((one) => Buffer.from(one)))),
    async reply() {
      for (;;) {
        const read = readReply(text, 0);
        if (read !== undefined) {
          text = text.slice(read[1]);
          return read[0];
        }
        if (closed) throw new Error('the connection has ended');
        await change();
      }
    },
    ask(...args) {
      wire.send(command(...args));
      return wire.reply();
    },
    async rest() {
      while (!closed) await change();
      const replies = repliesOf(text);
      text = '';
      return replies;
    },
  };
  return wire;
}
