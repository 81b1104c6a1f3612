import { readdirSync, readFileSync } from 'node:fs';
import { missingEtcd } from '../discovery/etcd-process.js';
import { valkeyMissing } from '../support/valkey.js';
import { installed } from './processes.js';

/** What some rows need of the machine. */
export type Tool = 'loopback' | 'taskset' | 'namespaces' | 'vde' | 'faketime' | 'valkey' | 'etcd';

const LIBRARIES = '/usr/lib';
const FAKETIME = 'faketime/libfaketimeMT.so.1';

/** The library that gives a process another wall clock, where it is installed. */
export function faketimeLibrary(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const folders = readdirSync(LIBRARIES).map((folder) => `${LIBRARIES}/${folder}/${FAKETIME}`);
  return folders.find((path) => {
    try {
      return readFileSync(path).length > 0;
    } catch {
      return false;
    }
  });
}

/** @returns why the tool cannot be used, and what to do; `undefined` when it can */
export function missing(tool: Tool): string | undefined {
  switch (tool) {
    case 'loopback':
      return process.platform === 'linux' ? undefined : 'all of 127.0.0.0/8 is this machine only on Linux';
    case 'taskset':
      return installed('taskset') ? undefined : 'taskset is missing: apt-get install util-linux';
    case 'namespaces':
      if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'network namespaces need Linux and root';
      if (!installed('ip', ['-V'])) return 'ip is missing: apt-get install iproute2';
      return installed('nft') ? undefined : 'nft is missing: apt-get install nftables';
    case 'vde':
      return installed('wirefilter') && installed('vde_plug2tap') && installed('vde_switch')
        ? undefined
        : 'wirefilter is missing: apt-get install vde2';
    case 'valkey':
      return valkeyMissing;
    case 'etcd':
      return missingEtcd();
    case 'faketime':
      return faketimeLibrary() === undefined ? 'libfaketime is missing: apt-get install faketime' : undefined;
  }
}
