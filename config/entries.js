// The entries of the packages, by path within src, without an ending. `@tokenring/client` has those of the client.
export const CLIENT_ENTRIES = [
  'client/index',
  'client/web',
  'client/frameworks/express',
  'client/frameworks/fastify',
  'client/frameworks/hono',
  'client/frameworks/koa',
  'client/frameworks/nestjs',
  'client/stores/store',
];
export const ENTRIES = ['index', ...CLIENT_ENTRIES];
