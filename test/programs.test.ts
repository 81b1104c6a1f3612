import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'chai';
import { CI_PACKAGES } from './support/programs.js';

describe('the programs that tests ask for', () => {
  it('are all installed by .ci/run, which installs nothing else', () => {
    const [, list] = /^apt-get install ((?:.*\\\n)*.*) >\/dev\/null$/m.exec(readFileSync('.ci/run', 'utf8')) ?? [];
    const packages = list!.split(/[\s\\]+/).filter((word) => !word.startsWith('-'));
    expect(packages.sort()).to.deep.equal([...CI_PACKAGES].sort());
  });

  it('are asked for by the table of test/support/programs.ts alone', () => {
    const files = readdirSync('test', { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts'));
    const others = files.filter((path) => !['support/programs.ts', 'programs.test.ts'].includes(path));
    const askers = others.filter((path) =>
      /apt-get install|env\['CI'\]|env\.CI\b/.test(readFileSync(`test/${path}`, 'utf8')),
    );
    expect(askers).to.deep.equal([]);
  });
});
