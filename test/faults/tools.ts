import { missing } from '../support/programs.js';

/** What some rows need of the machine. */
export type Tool = 'loopback' | 'taskset' | 'namespaces' | 'vde' | 'faketime' | 'valkey' | 'etcd';

/** @returns why the tool cannot be used, and what to do; `undefined` when it can */
export function missingTool(tool: Tool): string | undefined {
  switch (tool) {
    case 'loopback':
      return process.platform === 'linux' ? undefined : 'all of 127.0.0.0/8 is this machine only on Linux';
    case 'taskset':
      return missing('taskset');
    case 'namespaces':
      if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'network namespaces need Linux and root';
      return missing('ip', 'nft');
    case 'vde':
      return missing('wirefilter');
    case 'valkey':
      return missing('valkey-server');
    case 'etcd':
      return missing('etcd');
    case 'faketime':
      return missing('faketime');
  }
}
