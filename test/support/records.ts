import { readRecords } from '../../src/state/copy-records.js';
import type { ClientCopies, ClientSnapshot } from '../../src/state/client-snapshot.js';

/** All copies of a message as snapshots, those too that it has as records. */
export function snapshotsOf({ clients, records }: ClientCopies): ClientSnapshot[] {
  const all = [...clients];
  const bytes = Buffer.from(records ?? []);
  readRecords(bytes, ({ rule, ruleChanges, tokens, part, idStart, idEnd }) => {
    all.push([bytes.toString('utf8', idStart, idEnd), [{ ...rule, ruleChanges, state: [tokens, part] }]]);
  });
  return all;
}
