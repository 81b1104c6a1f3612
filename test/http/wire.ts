import { once } from 'node:events';
import net from 'node:net';
import type { IncomingHttpHeaders } from 'node:http';
import { parse, type Answer } from '../support/http.js';

/** A connection that sends bytes as they are: what no well-behaved client would. */
export interface Wire {
  send(...bytes: readonly (string | Buffer)[]): void;
  /** Says that nothing more comes, and goes on reading. */
  end(): void;
  /** Hangs up without a word. */
  destroy(): void;
  /** What has arrived when `count` answers have. Rejects where the other side hangs up first. */
  answers(count: number): Promise<readonly Answer[]>;
  /** All that came until the other side hung up. */
  closed(): Promise<readonly Answer[]>;
}

/** @param stubborn goes on after the other side said goodbye, until it is thrown out */
export async function connect(port: number, { stubborn = false } = {}): Promise<Wire> {
  const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
  await once(socket, 'connect');
  let text = '';
  let gone = false;
  let wake: () => void = () => undefined;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    text += chunk;
    wake();
  });
  socket.on('end', () => {
    if (stubborn) return;
    gone = true;
    socket.end();
    wake();
  });
  // A reset is a way to hang up; what had arrived before it stands.
  socket.on('error', () => undefined);
  socket.on('close', () => {
    gone = true;
    wake();
  });
  const until = async (enough: () => boolean): Promise<readonly Answer[]> => {
    while (!enough()) {
      if (gone) throw new Error(`hung up after: ${text || 'nothing'}`);
      await new Promise<void>((resolve) => (wake = resolve));
    }
    return readAnswers(text);
  };
  return {
    send(...bytes) {
      for (const one of bytes) socket.write(one);
    },
    end: () => socket.end(),
    destroy: () => socket.destroy(),
    answers: (count) => until(() => readAnswers(text).length >= count),
    closed: () => until(() => gone),
  };
}

/** Sends bytes on a connection of their own, and waits for the other side to hang up. */
export async function exchange(port: number, ...bytes: readonly (string | Buffer)[]): Promise<readonly Answer[]> {
  const wire = await connect(port);
  wire.send(...bytes);
  return wire.closed();
}

/** The whole answers at the head of a stream. */
function readAnswers(stream: string): Answer[] {
  const answers: Answer[] = [];
  let at = 0;
  for (;;) {
    const headEnd = stream.indexOf('\r\n\r\n', at);
    if (headEnd < 0) return answers;
    const [statusLine, ...lines] = stream.slice(at, headEnd).split('\r\n');
    const headers: IncomingHttpHeaders = {};
    for (const line of lines) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    const bodyEnd = headEnd + 4 + Number(headers['content-length'] ?? 0);
    if (stream.length < bodyEnd) return answers;
    const text = Buffer.from(stream.slice(headEnd + 4, bodyEnd), 'latin1').toString();
    const isJson = headers['content-type']?.includes('json') === true;
    answers.push({
      status: Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine!)?.[1]),
      headers,
      text,
      json: isJson && text !== '' ? parse(text) : undefined,
    });
    at = bodyEnd;
  }
}

/** A request as it goes over the wire. */
export function frame(
  path: string,
  body: string | Buffer,
  options: { headers?: string; method?: string } = {},
): Buffer {
  const { method = 'POST', headers = 'Content-Type: application/json\r\n' } = options;
  const length = Buffer.byteLength(body);
  const head = `${method} ${path} HTTP/1.1\r\nHost: localhost\r\n${headers}Content-Length: ${length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), Buffer.from(body)]);
}

export const CLOSE = 'Connection: close\r\n';
export const JSON_CLOSE = `Content-Type: application/json\r\n${CLOSE}`;
