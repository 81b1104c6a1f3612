// Runs the checks in a runtime that starts programs: Node.js, Bun, or Deno. Its argument is the targets, as JSON.
import * as tokenring from '@tokenring/client';
import process from 'node:process';
import { conformance } from './conformance.js';

const targets = JSON.parse(process.argv.at(-1));
const results = await conformance(tokenring, targets);
// Nobody closes this client, and the process ends all the same.
await tokenring.createClient({ nodes: targets.nodes }).allow('unclosed', 1, 1_000);
console.log(JSON.stringify(results));
