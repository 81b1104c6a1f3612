import { MAX_ANSWER_BYTES } from './transport.js';
import type { Connections, HttpAnswer, HttpRequest } from './transport.js';

/** Makes connections with the `fetch` of the runtime, which has no options for certificates. */
export function createFetchConnections(): Connections {
  const inProgress = new Set<AbortController>();
  let closed: Error | undefined;
  return {
    exchange(request, { answered, failed }) {
      const abort = new AbortController();
      if (closed !== undefined) abort.abort(closed);
      inProgress.add(abort);
      void exchange(request, abort.signal)
        .finally(() => inProgress.delete(abort))
        .then(answered, failed);
      return (reason) => abort.abort(reason);
    },
    close() {
      closed = new Error('the client is closed');
      for (const abort of inProgress) abort.abort(closed);
      return Promise.resolve();
    },
  };
}

async function exchange(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
  const { origin, path, method, headers, body } = request;
  const init = { method, headers, redirect: 'manual', signal } as const;
  const answer = await fetch(origin + path, body === undefined ? init : { body, ...init });
  const text = await readText(answer);
  return { status: answer.status, retryAfter: answer.headers.get('retry-after') ?? undefined, text };
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
