// The entry `tokenring/store`: stores for middlewares that count by themselves.
export { expressStore } from './express-store.js';
export type { ExpressStore } from './express-store.js';
export { fastifyStore } from './fastify-store.js';
export type { FastifyStore } from './fastify-store.js';
export type { StoreOptions } from './hits.js';
export type { Limiter } from '../../limits/request/limiter.js';
