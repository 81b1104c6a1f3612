#!/usr/bin/env node
import { askAllow } from './cli/allow.js';
import { runCluster } from './cli/cluster.js';
import { checkPolicies } from './cli/policies.js';
import { serve } from './cli/serve.js';
import { showStatus } from './cli/status.js';
import { makeToken } from './cli/token.js';
import { usage } from './cli/usage.js';
import { startFailure } from './cli/start-failure.js';

const [command, ...args] = process.argv.slice(2);
// Only alone: `tokenring allow --limit 5 --window 1m "$CLIENT"` must not exit with 0, allowed, where the client is named --help.
const wantsHelp = args.length === 1 && args[0] === '--help';
try {
  switch (wantsHelp ? 'help' : command) {
    case 'serve':
      await serve(args, process.env);
      break;
    case 'cluster':
      await runCluster(args, process.env);
      break;
    case 'allow':
      process.exitCode = await askAllow(args);
      break;
    case 'status':
      process.exitCode = await showStatus(args);
      break;
    case 'token':
      makeToken(args);
      break;
    case 'policies':
      process.exitCode = await checkPolicies(args);
      break;
    case 'help':
    case '--help':
      process.stdout.write(usage());
      break;
    default:
      process.stderr.write(usage());
      process.exitCode = 2;
  }
} catch (error) {
  process.stderr.write(`tokenring: ${startFailure(error)}\n`);
  // At once: servers and timers that started before the failure would keep the process alive.
  process.exit(2);
}
