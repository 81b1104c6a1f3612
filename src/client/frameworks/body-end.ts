import type { End } from '../middleware/exchange.js';

/**
 * Calls the listener once, when the body of a response has been read to its end, or its reader has given up. A runtime
 * without sockets tells nothing else about the end of an answer.
 * @returns the response to send in its place
 */
export function onBodyEnd(response: Response, listener: (end: End) => void): Response {
  const { status, body } = response;
  let isOver = false;
  const end = (isComplete: boolean): void => {
    if (isOver) return;
    isOver = true;
    listener({ status, isComplete });
  };
  if (body === null) {
    end(true);
    return response;
  }
  const reader = (body as ReadableStream<Uint8Array>).getReader();
  const watched = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        end(true);
        controller.close();
      } catch (error) {
        end(false);
        controller.error(error);
      }
    },
    cancel(reason) {
      end(false);
      return reader.cancel(reason);
    },
  });
  return new Response(watched, response);
}
