import { existsSync, readdirSync } from 'node:fs';
import { run, undoAtEnd } from './processes.js';
import type { Host, Network } from './network.js';

/** A network that can be cut: each host in a namespace of its own, with a wire to a bridge in another one. */
export interface CuttableNetwork extends Network {
  readonly names: readonly string[];
  /** From now on nothing that one node sends reaches the other. */
  cut(from: number, to: number): void;
  /** The same of several, with few commands. */
  cutAll(pairs: readonly (readonly [from: number, to: number])[]): void;
  /** Ends all cuts. */
  heal(): void;
}

const NAME = 'tokenring-faults';
/** Where `ip netns` keeps them. */
const NAMESPACES = '/run/netns';
const BRIDGE = 'bridge';
/** Within the namespaces only, which have no way out: nothing of it is ever seen outside. */
const SUBNET = '10.99.1';

/** @throws Error without root, or without the programs `ip` and `nft` */
export function createNamespaces(nodes: number): CuttableNetwork {
  removeLeftovers();
  const prefix = `${NAME}-${process.pid}-${counter++}`;
  const hub = `${prefix}-hub`;
  const hosts = Array.from({ length: nodes + 1 }, (_, i) => ({
    name: `${prefix}-${i}`,
    address: `${SUBNET}.${i + 1}`,
  }));
  const close = undoAtEnd(() => {
    for (const name of [hub, ...hosts.map(({ name }) => name)]) {
      try {
        run('ip', ['netns', 'delete', name]);
      } catch {
        // It was not made yet.
      }
    }
  });
  try {
    run('ip', ['netns', 'add', hub]);
    for (const { name } of hosts) run('ip', ['netns', 'add', name]);
    run('ip', ['-n', hub, '-batch', '-'], `link add ${BRIDGE} type bridge\nlink set ${BRIDGE} up\n`);
    hosts.forEach(({ name, address }, i) => {
      run(
        'ip',
        ['-n', hub, '-batch', '-'],
        `link add wire${i} type veth peer name wire netns ${name}\nlink set wire${i} master ${BRIDGE} up\n`,
      );
      run('ip', ['-n', name, '-batch', '-'], `addr add ${address}/24 dev wire\nlink set lo up\nlink set wire up\n`);
      nft(name, 'add table inet faults\nadd chain inet faults cut { type filter hook input priority 0; }\n');
    });
  } catch (error) {
    close();
    throw error;
  }
  function cutAll(pairs: readonly (readonly [from: number, to: number])[]): void {
    hosts.forEach(({ name }, i) => {
      const from = pairs.filter(([, to]) => to === i);
      const rules = from.map(([one]) => `add rule inet faults cut ip saddr ${hosts[one]!.address} drop\n`);
      if (rules.length > 0) nft(name, rules.join(''));
    });
  }

  const all = hosts.map(({ name, address }): Host => {
    return { address, peerAddress: address, prefix: ['ip', 'netns', 'exec', name] };
  });
  return {
    nodes: all.slice(0, nodes),
    outside: all[nodes]!,
    names: hosts.map(({ name }) => name),
    cut: (from, to) => cutAll([[from, to]]),
    cutAll,
    heal: () => hosts.forEach(({ name }) => nft(name, 'flush chain inet faults cut\n')),
    close,
  };
}

let counter = 0;

/** Removes what a run has left that was killed: its processes are gone. */
function removeLeftovers(): void {
  if (!existsSync(NAMESPACES)) return;
  for (const name of readdirSync(NAMESPACES)) {
    const pid = new RegExp(`^${NAME}-(\\d+)-`).exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) run('ip', ['netns', 'delete', name]);
  }
}

function nft(namespace: string, commands: string): void {
  run('ip', ['netns', 'exec', namespace, 'nft', '-f', '-'], commands);
}
