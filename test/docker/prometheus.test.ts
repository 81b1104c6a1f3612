import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'chai';
import { parse, stringify } from 'yaml';
import { addEtcdMetrics, LiveRegistry } from '../../src/server/http/metrics.js';
import type { RunningNode } from '../../src/app/main.js';
import { allow, call, liveNode, newClient } from '../support/http.js';
import { freePort } from '../support/ports.js';
import { describeWith } from '../support/programs.js';

const FOLDER = 'docker/prometheus';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}
interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
}

const { groups } = parse(readFileSync(`${FOLDER}/rules.yml`, 'utf8')) as {
  groups: readonly { rules: readonly Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);
const dashboard = JSON.parse(readFileSync('docker/grafana/dashboards/tokenring.json', 'utf8')) as {
  panels: readonly Panel[];
  templating: { list: readonly { definition?: string }[] };
};
const shown = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
const asked = dashboard.templating.list.flatMap(({ definition = '' }) => definition);

/** Names of the metrics that an expression reads. */
function namesIn(expression: string): string[] {
  return expression.match(/\b(?:tokenring|nodejs|process)_\w+/g) ?? [];
}

describe('Prometheus and Grafana', () => {
  let folder: string;
  let node: RunningNode;
  before(async function () {
    this.timeout(60_000);
    folder = mkdtempSync(join(tmpdir(), 'tokenring-prometheus-'));
    node = await liveNode('--store', `lmdb:${join(folder, 'store')}`);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  describe('the alerts and the dashboard', () => {
    it('read only metrics that a node exports', async () => {
      const { text } = await call(node, '/metrics');
      const exported = new Set([...text.matchAll(/^(?:# TYPE )?(\w+)[{ ]/gm)].map(([, name]) => name!));
      const etcd = new LiveRegistry();
      addEtcdMetrics(etcd, () => expect.fail('nothing is read'));
      for (const { name } of etcd.getMetricsAsArray()) exported.add(name);
      exported.add('up');
      const read = [...rules.map(({ expr }) => expr), ...shown, ...asked].flatMap(namesIn);
      expect(read.length).to.be.above(30);
      for (const name of new Set(read)) expect(exported, name).to.include(name);
    });

    it('lead from each alert to its entry in the docs', () => {
      const docs = readFileSync('docs/operations.md', 'utf8');
      for (const { alert, annotations } of rules) {
        expect(annotations['runbook'], alert).to.equal(`docs/operations.md#${alert.toLowerCase()}`);
        expect(docs).to.include(`\n### ${alert}\n`);
      }
    });

    it('are mounted by Compose from files that are there', () => {
      const { services } = parse(readFileSync('docker/docker-compose.yml', 'utf8')) as {
        services: Record<string, { profiles?: string[]; volumes?: string[] }>;
      };
      const observing = Object.values(services).filter(({ profiles }) => profiles?.includes('observe'));
      const mounted = observing.flatMap(({ volumes = [] }) => volumes).filter((volume) => volume.startsWith('./'));
      expect(mounted.map((volume) => volume.split(':')[0])).to.have.members([
        './prometheus',
        './grafana/provisioning',
        './grafana/dashboards',
      ]);
    });
  });

  describeWith('promtool', 'prometheus', () => {
    const promtool = (...args: string[]): void => {
      const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: FOLDER, encoding: 'utf8' });
      expect(status, stdout + stderr).to.equal(0);
    };

    it('accepts the configuration and the rules', () => promtool('check', 'config', 'prometheus.yml'));

    it('sees each alert raised by what it is for, and none by a healthy node', () => {
      promtool('test', 'rules', 'rules.test.yml');
      const tests = readFileSync(`${FOLDER}/rules.test.yml`, 'utf8');
      for (const { alert } of rules) expect(tests).to.include(`alertname="${alert}"`);
    });
  });

  describeWith('a real Prometheus', 'prometheus', function () {
    let prometheus: ChildProcess;
    let origin: string;
    let said = '';

    before(async function () {
      this.timeout(60_000);
      const port = await freePort();
      origin = `http://127.0.0.1:${port}`;
      const config = parse(readFileSync(`${FOLDER}/prometheus.yml`, 'utf8')) as {
        global: object;
        scrape_configs: { job_name: string; dns_sd_configs?: unknown; static_configs?: unknown }[];
      };
      config.global = { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' };
      const [job] = config.scrape_configs;
      delete job!.dns_sd_configs;
      job!.static_configs = [{ targets: [`127.0.0.1:${node.port}`] }];
      writeFileSync(join(folder, 'prometheus.yml'), stringify(config));
      copyFileSync(`${FOLDER}/rules.yml`, join(folder, 'rules.yml'));
      const flags = [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`];
      prometheus = spawn('prometheus', [...flags, `--web.listen-address=127.0.0.1:${port}`], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      prometheus.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    });
    after(async () => {
      prometheus.kill('SIGKILL');
      if (prometheus.exitCode === null && prometheus.signalCode === null)
        await new Promise((resolve) => prometheus.once('close', resolve));
    });

    async function api<T>(path: string): Promise<T> {
      const answer = await fetch(`${origin}/api/v1/${path}`);
      const { status, data, error } = (await answer.json()) as { status: string; data: T; error?: string };
      expect(status, `${path}: ${error}`).to.equal('success');
      return data;
    }

    /** Asks again until the answer is as wanted. */
    async function until<T>(path: string, isWanted: (data: T) => boolean): Promise<T> {
      let last: unknown;
      while (prometheus.exitCode === null) {
        try {
          const data = await api<T>(path);
          if (isWanted(data)) return data;
          last = data;
        } catch (error) {
          last = error;
        }
        await sleep(100);
      }
      throw new Error(`Prometheus ended: ${said.slice(-2_000)}`, { cause: last });
    }

    interface Answer {
      readonly result: readonly {
        readonly metric: Record<string, string>;
        readonly value: readonly [number, string];
      }[];
    }
    const query = (text: string): string => `query?query=${encodeURIComponent(text)}`;

    it('scrapes a node and evaluates every alert and every panel', async function () {
      this.timeout(60_000);
      await allow(node, { clientId: newClient(), limit: 3, window: '1d' });
      const decided = await until<Answer>(query('tokenring_decisions_total > 0'), ({ result }) => result.length > 0);
      expect(decided.result[0]!.metric).to.include({ job: 'tokenring', outcome: 'allowed', source: 'owner' });

      type Evaluated = {
        groups: readonly { rules: readonly { name: string; health: string; lastError?: string }[] }[];
      };
      const evaluated = await until<Evaluated>('rules', ({ groups: [group] }) =>
        group!.rules.every(({ health }) => health !== 'unknown'),
      );
      const states = evaluated.groups.flatMap((group) => group.rules.map(({ name, health }) => `${name} ${health}`));
      expect(states).to.have.members(rules.map(({ alert }) => `${alert} ok`));

      for (const expr of shown) {
        const substituted = expr.replaceAll('$job', 'tokenring').replaceAll('$instance', '.*');
        await api<Answer>(query(substituted.replaceAll('$__rate_interval', '1m')));
      }
      const near = await api<Answer>(query('process_resident_memory_bytes / tokenring_memory_budget_bytes'));
      expect(near.result, 'memory is compared with its budget').to.have.length(1);
    });
  });
});
