#!/usr/bin/env node
import { askAllow } from './cli/allow.js';
import { runCluster } from './cli/cluster.js';
import { serve } from './cli/serve.js';
import { showStatus } from './cli/status.js';
import { SettingsError } from './settings.js';

const USAGE = `tokenring: a distributed rate limiter

  tokenring serve [--port 8080] [--SETTING VALUE …]     one node in the foreground
  tokenring cluster [--nodes 3] [--SETTING VALUE …]     several nodes on this machine
  tokenring allow CLIENT --limit 10 --window 1m [--cost 1] [--url http://127.0.0.1:8080]
                                                        ask: exit 0 allowed, 1 denied, 2 error
  tokenring status [--url http://127.0.0.1:8080]        the members, as a node sees them
`;

const [command, ...args] = process.argv.slice(2);
try {
  switch (command) {
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
    case 'help':
    case '--help':
      process.stdout.write(USAGE);
      break;
    default:
      process.stderr.write(USAGE);
      process.exitCode = 2;
  }
} catch (error) {
  const { syscall } = error as NodeJS.ErrnoException;
  const known = error instanceof SettingsError || syscall === 'listen' || syscall === 'getaddrinfo';
  process.stderr.write(`tokenring: ${known ? (error as Error).message : String((error as Error).stack)}\n`);
  // At once: what had started before the failure would keep the process.
  process.exit(2);
}
