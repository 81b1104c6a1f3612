// Runs the checks in a worker, such as workerd's. The body of a request is the targets, as JSON.
import * as tokenring from '@tokenring/client';
import { conformance } from './conformance.js';

export default {
  async fetch(request) {
    if (request.method === 'HEAD') return new Response();
    return Response.json(await conformance(tokenring, await request.json()));
  },
};
