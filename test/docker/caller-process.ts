// Asks over HTTP on behalf of a test that runs elsewhere: in a network namespace, say. Its argument: the base URL.
// Message in: Call. Message out: Answered.
import { Agent, request } from 'node:http';
import type { Answered, Call } from './caller.js';

const base = process.argv[2]!;
// One connection for each request that is under way, kept: as a service would. It sends nothing twice.
const agent = new Agent({ keepAlive: true });

process.on('message', ({ id, method, path, body, token }: Call) => {
  const answer = (answered: Omit<Answered, 'id'>): void => void process.send?.({ id, ...answered });
  const headers = {
    ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  };
  const outgoing = request(new URL(path, base), { method, agent, headers }, (incoming) => {
    let text = '';
    incoming.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    incoming.on('end', () => answer({ status: incoming.statusCode!, body: text }));
    incoming.on('error', (error) => answer({ status: 0, body: error.message }));
  });
  outgoing.on('error', (error) => answer({ status: 0, body: error.message }));
  outgoing.end(body);
});
process.on('disconnect', () => process.exit(0));
process.send?.('ready');
