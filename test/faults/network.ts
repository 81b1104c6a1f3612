import { randomInt } from 'node:crypto';

/** Where a process runs: an address, and what goes before its command to be there. */
export interface Host {
  /** Where callers, and where peers, reach it. */
  readonly address: string;
  readonly peerAddress: string;
  readonly prefix: readonly string[];
}

export interface Network {
  readonly nodes: readonly Host[];
  /** Where the load comes from. */
  readonly outside: Host;
  close(): void;
}

/**
 * Loopback addresses of this run's own: the nodes keep their ports, and nobody else takes them.
 *
 * @param prefixes what goes before the commands of the nodes, and of the load
 */
export function createLoopback(nodes: number, prefixes: LoopbackPrefixes = {}): Network {
  const subnet = `127.${randomInt(1, 255)}.${randomInt(1, 255)}`;
  const host = (n: number, prefix: readonly string[] = []): Host => {
    return { address: `${subnet}.${n}`, peerAddress: `${subnet}.${n}`, prefix };
  };
  return {
    nodes: Array.from({ length: nodes }, (_, i) => host(i + 1, prefixes.nodes)),
    outside: host(100, prefixes.load),
    close: () => undefined,
  };
}

interface LoopbackPrefixes {
  readonly nodes?: readonly string[];
  readonly load?: readonly string[];
}
