import type { ClusterDescription } from '../server/http/api/cluster-view.js';
import type { Command } from './command.js';
import { ask, REMOTE, show, table } from './remote.js';

export const status: Command = {
  usage: 'status',
  summary: 'Lists the members of the ring, as one node sees them.',
  positionals: [0, 0],
  options: REMOTE,
  exits: { 0: 'the node answered', 2: 'error' },
  examples: ['tokenring status', 'tokenring status --url localhost:8081 --json'],
  run: async (input) => show(await ask(input, '/v1/cluster'), input, (body) => asTable(body as ClusterDescription)),
};

function asTable(cluster: ClusterDescription): string {
  const rows = cluster.members.map(({ id, state, share, version, silentMs }) => {
    const percent = `${(share * 100).toFixed(1)}%`;
    return [id === cluster.self ? `${id} (asked)` : id, state, percent, version, `${silentMs} ms`];
  });
  return `${table([['member', 'state', 'share', 'version', 'silent'], ...rows])}ring ${cluster.ringChecksum}\n`;
}
