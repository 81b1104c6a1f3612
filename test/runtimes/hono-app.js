// A service that Hono limits, for any runtime: `GET /limited` by a ring, `GET /down` by a node that does not answer.

/**
 * @param parts `Hono`; `rateLimit` and `addressKey` of `@tokenring/client/hono`; and `createClient`
 * @param addressOf returns the address of the caller, as the runtime tells it
 * @param targets `nodes` of a ring, and the address where a connection is `refused`
 * @returns the service, and a function that closes its clients
 */
export function createApp(
  { Hono, rateLimit, addressKey, createClient },
  addressOf,
  { nodes, token, refused, runtime },
) {
  const clients = [
    createClient({ nodes, token, timeoutMs: 20_000 }),
    createClient({ nodes: [refused], timeoutMs: 500 }),
  ];
  const limit = (limiter, more) =>
    rateLimit({ limiter, limit: 2, window: '1d', key: (c) => `${runtime} ${addressKey(addressOf(c))}`, ...more });
  const app = new Hono()
    .use('/limited', limit(clients[0], { name: 'hono' }))
    .use('/down', limit(clients[1], { onUnavailable: 'closed' }))
    .get('/limited', (c) => c.text(`${c.var.rateLimit.remaining} left to ${addressKey(addressOf(c))}`))
    .get('/down', (c) => c.text('passed'))
    .get('/', (c) => c.text('up'));
  return { app, close: () => Promise.all(clients.map((client) => client.close())) };
}
