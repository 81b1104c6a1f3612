import { FileFailure, LmdbFile } from './lmdb-file.js';
import type { Reply, Request } from './lmdb-protocol.js';

/**
 * The child process that has a node's LMDB file open. LMDB maps the file into memory: reading a page may wait for the
 * disk, and a damaged file may crash the process that reads it. Neither must happen to the process that decides.
 */
let file: LmdbFile | undefined;

function answer(request: Request): Reply {
  try {
    if (request.op === 'open') {
      file ??= new LmdbFile(request.path);
      return { kind: 'opened', members: file.members(), warnings: file.warnings };
    }
    if (file === undefined) throw new FileFailure('other', 'the file is not open');
    switch (request.op) {
      case 'load':
        return file.load(request.after, request.nowMs);
      case 'write':
        return file.write(request);
      case 'sweep':
        return file.sweep(request.nowMs);
    }
  } catch (error) {
    const failure = error instanceof FileFailure ? error.failure : 'other';
    return { kind: 'failed', failure, reason: (error as Error).message };
  }
}

// If the node has ended meanwhile, no process needs the reply.
process.on('message', (request: Request) => void process.send!(answer(request), () => undefined));
// The node has ended or has closed the store. Writes block, so none is in progress here.
process.on('disconnect', () => process.exit(0));
// Signals to the process group are for the node, which then closes the store.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
