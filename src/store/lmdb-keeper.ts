import { FileFailure, openLmdbFile } from './lmdb-file.js';
import type { LmdbFile } from './lmdb-file.js';
import type { Ask, Told } from './lmdb-protocol.js';

/**
 * The process that keeps a node's LMDB file. Apart, because LMDB maps the file into memory: reading a page may wait for the disk, and a
 * damaged file may end the process that reads it. Neither is to happen to the one that decides.
 */
const SWEEP_EVERY_MS = 1_000;

let file: LmdbFile | undefined;

function answer(ask: Ask): Told {
  try {
    if (ask.op === 'open') {
      file ??= openLmdbFile(ask.path);
      return { kind: 'opened', members: file.members };
    }
    if (file === undefined) throw new FileFailure('other', 'the file is not open');
    return ask.op === 'load' ? file.load(ask.after, ask.nowMs) : file.write(ask);
  } catch (error) {
    const failure = error instanceof FileFailure ? error.failure : 'other';
    return { kind: 'failed', failure, reason: (error as Error).message };
  }
}

// A node that is gone meanwhile needs no answer.
process.on('message', (ask: Ask) => void process.send!(answer(ask), () => undefined));
// The node is gone, or is done with it; a write that was under way has ended, as it blocks. Signals for its group are for the node.
process.on('disconnect', () => process.exit(0));
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
setInterval(() => {
  try {
    file?.sweep(Date.now());
  } catch {
    // The next write says so.
  }
}, SWEEP_EVERY_MS);
