import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { expect } from 'chai';

const MOCHA = createRequire(import.meta.url).resolve('mocha/bin/mocha.js');

describe('the bytes that are charged', function () {
  this.timeout(120_000);

  it('are what each thing takes on the heap, weighed in a process that has nothing else on its heap', () => {
    const script = join(import.meta.dirname, 'heap-bytes.alone.ts');
    const { status, stdout } = spawnSync(process.execPath, [MOCHA, '--reporter', 'dot', script], { encoding: 'utf8' });
    expect(status, stdout).to.equal(0);
    expect(stdout).to.match(/^ {2}[1-9][0-9]* passing/m);
  });
});
