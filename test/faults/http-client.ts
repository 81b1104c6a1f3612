import { connect } from 'node:net';

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  /** The clock of the server. */
  readonly date: string | undefined;
}

export type HttpResult = HttpAnswer | { readonly error: string };

/**
 * Requests to one server over connections that are kept; nothing is sent twice. By hand, as the generator shares two cores with all nodes: a library's client takes several times the processor time, and
 * the more, the more requests wait.
 */
export interface HttpClient {
  /**
   * @param timeoutMs for all of it, the wait for a connection too
   * @param done is called once
   */
  request(head: string, body: string, timeoutMs: number, done: (result: HttpResult) => void): void;
}

const HEAD_END = '\r\n\r\n';
/** Fewer than the kernel lets wait to be accepted (511): more would be refused by it when a node gets no processor. */
const MAX_CONNECTIONS = 400;

interface Request {
  readonly text: string;
  /** Called once. */
  readonly done: (result: HttpResult) => void;
  expired: boolean;
  /** Gives up the connection that carries it. */
  abandon?: () => void;
}

export function createHttpClient(host: string, port: number): HttpClient {
  /** The one that was used last is used next. */
  const idle: Connection[] = [];
  const queue: Request[] = [];
  let connections = 0;

  function pump(): void {
    while (queue.length > 0 && (idle.length > 0 || connections < MAX_CONNECTIONS)) {
      const request = queue.shift()!;
      if (!request.expired) (idle.pop() ?? open()).send(request);
    }
  }

  function open(): Connection {
    connections += 1;
    const connection = openConnection(host, port, {
      free: () => idle.push(connection),
      closed: () => {
        connections -= 1;
        const at = idle.indexOf(connection);
        if (at >= 0) idle.splice(at, 1);
      },
      settled: pump,
    });
    return connection;
  }

  return {
    request(head, body, timeoutMs, done) {
      const text =
        `${head} HTTP/1.1\r\nHost: ${host}:${port}\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
      const timer = setTimeout(() => {
        request.expired = true;
        if (request.abandon === undefined) request.done({ error: `not sent in ${timeoutMs} ms` });
        else request.abandon();
      }, timeoutMs);
      const request: Request = {
        text,
        done: (result) => {
          clearTimeout(timer);
          done(result);
        },
        expired: false,
      };
      queue.push(request);
      pump();
    },
  };
}

interface Connection {
  send(request: Request): void;
}

interface ConnectionEvents {
  /** It has answered, and can carry the next request. */
  free(): void;
  closed(): void;
  /** After either. */
  settled(): void;
}

function openConnection(host: string, port: number, events: ConnectionEvents): Connection {
  const socket = connect({ host, port, noDelay: true });
  socket.setEncoding('utf8');
  let received = '';
  let waiting: Request | undefined;
  let open = true;

  function settle(result: HttpResult): void {
    const request = waiting;
    waiting = undefined;
    received = '';
    request?.done(result);
    events.settled();
  }

  function close(): void {
    socket.destroy();
    if (open) events.closed();
    open = false;
  }

  function fail(error: string): void {
    close();
    settle({ error });
  }

  socket.on('data', (text: string) => {
    received += text;
    const headEnd = received.indexOf(HEAD_END);
    if (headEnd < 0) return;
    const head = received.slice(0, headEnd);
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
    if (Number.isNaN(length)) return fail(`an answer without a length: ${head}`);
    const body = received.slice(headEnd + HEAD_END.length);
    if (Buffer.byteLength(body) < length) return;
    if (/\r\nconnection: close/i.test(head)) close();
    else events.free();
    settle({ status: Number(head.slice(9, 12)), body, date: /\r\ndate: (.*)/i.exec(head)?.[1] });
  });
  socket.on('error', (error) => fail(error.message));
  socket.on('close', () => fail('the connection was closed'));

  return {
    send(request) {
      waiting = request;
      request.abandon = () => fail('no answer in time');
      socket.write(request.text);
    },
  };
}
