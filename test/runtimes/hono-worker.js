// Serves the Hono app in a worker. `TARGETS` is put in when it is bundled. A worker makes its client for each request.
import { createClient } from '@tokenring/client';
import { addressKey, rateLimit } from '@tokenring/client/hono';
import { Hono } from 'hono';
import { createApp } from './hono-app.js';

export default {
  async fetch(request, env, context) {
    const parts = { Hono, rateLimit, addressKey, createClient };
    const { app, close } = createApp(parts, (c) => c.req.header('cf-connecting-ip'), TARGETS);
    const answer = await app.fetch(request, env, context);
    context.waitUntil(close());
    return answer;
  },
};
