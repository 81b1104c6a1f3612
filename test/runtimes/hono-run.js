// Serves the Hono app in Bun or Deno. Its argument is the targets, as JSON. It prints its port.
import { createClient } from '@tokenring/client';
import { addressKey, rateLimit } from '@tokenring/client/hono';
import { Hono } from 'hono';
import process from 'node:process';
import { createApp } from './hono-app.js';

const targets = JSON.parse(process.argv.at(-1));
const isBun = globalThis.Bun !== undefined;
const { getConnInfo } = isBun ? await import('hono/bun') : await import('hono/deno');
const { app } = createApp({ Hono, rateLimit, addressKey, createClient }, (c) => getConnInfo(c).remote.address, targets);
const at = { hostname: '127.0.0.1', port: 0 };
if (isBun) console.log(JSON.stringify({ port: globalThis.Bun.serve({ ...at, fetch: app.fetch }).port }));
else globalThis.Deno.serve({ ...at, onListen: ({ port }) => console.log(JSON.stringify({ port })) }, app.fetch);
