import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface Call {
  readonly id: number;
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly body: string | undefined;
  readonly token: string | undefined;
}

export interface Answered {
  readonly id: number;
  /** 0 when there was no answer; `body` then says why. */
  readonly status: number;
  readonly body: string;
}

export interface Caller {
  /** Never rejects: a broken connection is an answer with status 0. */
  call(method: Call['method'], path: string, body?: object, token?: string): Promise<Answered>;
  close(): void;
}

/** A process that makes HTTP requests where `inside` puts it. */
export async function startCaller(inside: readonly string[], base: string): Promise<Caller> {
  const script = join(import.meta.dirname, 'caller-process.ts');
  const [command, ...args] = [...inside, process.execPath, '--import', 'tsx', script, base];
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await once(child, 'message');
  const waiting = new Map<number, (answered: Answered) => void>();
  child.on('message', (answered: Answered) => {
    waiting.get(answered.id)?.(answered);
    waiting.delete(answered.id);
  });
  child.on('exit', () => {
    for (const [id, resolve] of waiting) resolve({ id, status: 0, body: 'the calling process ended' });
    waiting.clear();
  });
  let calls = 0;
  return {
    call(method, path, body, token) {
      calls += 1;
      const call: Call = { id: calls, method, path, body: body && JSON.stringify(body), token };
      return new Promise((resolve) => {
        waiting.set(call.id, resolve);
        child.send(call);
      });
    },
    close: () => child.disconnect(),
  };
}
