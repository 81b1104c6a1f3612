import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { call, liveNode } from '../support/http.js';

describe('the OpenAPI document', () => {
  let folder: string;
  before(() => (folder = mkdtempSync(join(tmpdir(), 'tokenring-openapi-'))));
  after(() => rmSync(folder, { recursive: true }));

  /** The rules of `config/redocly.yaml` that a document breaks. */
  function lint(document: object): string[] {
    const path = join(folder, 'openapi.json');
    writeFileSync(path, JSON.stringify(document));
    const flags = ['lint', path, '--config', 'config/redocly.yaml', '--format', 'json'];
    // The linter tells its makers of each run unless this forbids it.
    const env = { ...process.env, REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true' };
    let report: string;
    try {
      report = execFileSync('node_modules/.bin/redocly', flags, { encoding: 'utf8', env, stdio: 'pipe' });
    } catch (error) {
      report = (error as { stdout: string }).stdout;
    }
    const { problems } = JSON.parse(report) as { problems: { ruleId: string }[] };
    return problems.map(({ ruleId }) => ruleId);
  }

  it('breaks no rule of the linter', async function () {
    this.timeout(60_000);
    const document = (await call(await liveNode(), '/openapi.json')).json as object;
    expect(lint(document)).to.deep.equal([]);
    expect(lint({ ...document, servers: [] })).to.deep.equal(['no-empty-servers']);
  });
});
