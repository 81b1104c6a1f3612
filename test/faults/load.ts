import { join } from 'node:path';
import type { GeneratorOptions } from './generator.js';
import { readHistory, type History } from './history.js';
import type { Host } from './network.js';
import { start } from './processes.js';
import type { Call, CallName, Calls, Got, Reply } from './protocol.js';

/** The generator, as the main program sees it. */
export interface Load {
  call<K extends CallName>(name: K, asked: Parameters<Calls[K]>[0]): Promise<ReturnType<Calls[K]>>;
  get(node: number, path: string): Promise<Got>;
  /** Ends the load. @returns all that was asked */
  finish(): Promise<History>;
  close(): Promise<void>;
}

export function startLoad(host: Host, folder: string, options: GeneratorOptions): Load {
  const script = join(import.meta.dirname, 'generator.ts');
  const command = [...host.prefix, process.execPath, '--import', 'tsx', script, JSON.stringify(options)];
  const generator = start(command, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let calls = 0;
  const { child, exited } = generator;
  child.on('message', ({ id, value, error }: Reply) => {
    const caller = waiting.get(id)!;
    waiting.delete(id);
    if (error === undefined) caller.resolve(value);
    else caller.reject(new Error(error));
  });
  void exited.then((code) => {
    for (const { reject } of waiting.values()) reject(new Error(`the generator ended with ${code}`));
  });

  const load: Load = {
    call: <K extends CallName>(name: K, asked: Parameters<Calls[K]>[0]) =>
      new Promise<ReturnType<Calls[K]>>((resolve, reject) => {
        const call: Call<K> = { id: calls++, name, asked };
        waiting.set(call.id, { resolve: resolve as (value: unknown) => void, reject });
        child.send(call);
      }),
    async get(node, path) {
      const [got] = await load.call('get', { node, paths: [path] });
      return got!;
    },
    async finish() {
      const path = join(folder, 'history.jsonl');
      await load.call('finish', { path });
      return readHistory(path);
    },
    close: () => generator.kill(),
  };
  return load;
}
