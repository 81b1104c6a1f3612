import { MAX_ANSWER_BYTES } from './transport.js';
import type { Connections } from './transport.js';

/** Makes connections with the `fetch` of the runtime, which has no options for certificates. */
export function createFetchConnections(): Connections {
  const closed = new AbortController();
  return {
    async exchange({ origin, path, method, headers, body, signal }) {
      const abort = new AbortController();
      const end = ({ target }: Event): void => abort.abort((target as AbortSignal).reason);
      const signals = [signal, closed.signal];
      for (const one of signals) one.addEventListener('abort', end);
      try {
        const init = { method, headers, redirect: 'manual', signal: abort.signal } as const;
        const answer = await fetch(origin + path, body === undefined ? init : { ...init, body });
        const text = await readText(answer);
        return { status: answer.status, retryAfter: answer.headers.get('retry-after') ?? undefined, text };
      } finally {
        for (const one of signals) one.removeEventListener('abort', end);
      }
    },
    close: () => Promise.resolve(closed.abort(new Error('the client is closed'))),
  };
}

/** @throws Error if the answer is larger than `MAX_ANSWER_BYTES` */
async function readText({ body }: Response): Promise<string> {
  if (body === null) return '';
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader.read()) as { done: boolean; value: Uint8Array | undefined };
    if (done || value === undefined) return text + decoder.decode();
    bytes += value.length;
    if (bytes > MAX_ANSWER_BYTES) {
      await reader.cancel();
      throw new Error(`the answer is larger than ${MAX_ANSWER_BYTES} bytes`);
    }
    text += decoder.decode(value, { stream: true });
  }
}
