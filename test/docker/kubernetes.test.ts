import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { expect } from 'chai';
import type { StatefulSet } from 'kubernetes-types/apps/v1.js';
import type { Container, EnvVar, Service } from 'kubernetes-types/core/v1.js';
import type { PodDisruptionBudget } from 'kubernetes-types/policy/v1.js';
import ts from 'typescript';
import { parseAllDocuments } from 'yaml';
import { MIN_MEMORY_MB } from '../../src/app/settings/memory-budget.js';
import { readSettings } from '../../src/app/settings/settings.js';
import type { Settings } from '../../src/app/settings/setting-table.js';
import { describeWith } from '../support/programs.js';

const FOLDER = 'docker/kubernetes';
const VARIANTS = ['base', 'overlays/etcd', 'overlays/mtls'] as const;
type Variant = (typeof VARIANTS)[number];

/** What the types of Kubernetes, which are made from its OpenAPI document, call each kind of object. */
const TYPES: Readonly<Record<string, string>> = {
  'v1 Service': 'core/v1',
  'apps/v1 StatefulSet': 'apps/v1',
  'policy/v1 PodDisruptionBudget': 'policy/v1',
};

/** The longest that a node takes from SIGTERM to its end, with a store: docs/operations.md. */
const STOP_S = 9;

interface Rendered {
  readonly all: readonly { readonly apiVersion: string; readonly kind: string }[];
  readonly set: StatefulSet;
  readonly node: Container;
  readonly services: readonly Service[];
  readonly budget: PodDisruptionBudget;
}

function render(variant: Variant): Rendered {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', join(FOLDER, variant)], { encoding: 'utf8' });
  expect(status, stderr).to.equal(0);
  const all = parseAllDocuments(stdout).map((document) => document.toJS() as Rendered['all'][number]);
  const of = <T>(kind: string): T[] => all.filter((one) => one.kind === kind) as T[];
  const [set] = of<StatefulSet>('StatefulSet');
  const [budget] = of<PodDisruptionBudget>('PodDisruptionBudget');
  const node = set!.spec!.template.spec!.containers[0]!;
  return { all, set: set!, node, services: of<Service>('Service'), budget: budget! };
}

/** What TypeScript says of the objects as literals of their types: unknown and missing fields, wrong values. */
function mistakesIn(objects: Rendered['all']): string[] {
  const text = objects
    .map((object, i) => {
      const type = TYPES[`${object.apiVersion} ${object.kind}`];
      if (type === undefined) throw new Error(`no type for ${object.apiVersion} ${object.kind}`);
      return `export const object${i}: import('kubernetes-types/${type}').${object.kind} = ${JSON.stringify(object)};`;
    })
    .join('\n');
  // Beside this file, so that the package is found. It is never written.
  const path = resolve(import.meta.dirname, 'rendered.ts');
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    lib: ['lib.es5.d.ts'],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
  };
  const host = ts.createCompilerHost(options);
  const fileExists = host.fileExists.bind(host);
  const getSourceFile = host.getSourceFile.bind(host);
  host.fileExists = (name) => name === path || fileExists(name);
  host.getSourceFile = (name, language, ...rest) =>
    name === path ? ts.createSourceFile(name, text, language) : getSourceFile(name, language, ...rest);
  return ts
    .getPreEmitDiagnostics(ts.createProgram([path], options, host))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}

function mebibytes(quantity: string | undefined): number {
  const [, amount, unit] = /^(\d+)(Mi|Gi)$/.exec(String(quantity))!;
  return Number(amount) * (unit === 'Gi' ? 1024 : 1);
}

/** The settings of the image, as `ENV` of docker/Dockerfile. */
function imageEnvironment(): Record<string, string> {
  const text = readFileSync('docker/Dockerfile', 'utf8');
  return Object.fromEntries([...text.matchAll(/(TOKENRING_\w+)=(\S+)/g)].map(([, name, value]) => [name!, value!]));
}

/** The environment of a pod as Kubernetes makes it, in order: `$(NAME)` only refers to what stands before it. */
function environmentOf({ node }: Rendered, pod: string): Record<string, string> {
  const environment: Record<string, string> = imageEnvironment();
  const valueOf = ({ name, value, valueFrom }: EnvVar): string => {
    if (value !== undefined) {
      const filled = value.replaceAll(/\$\((\w+)\)/g, (given, other: string) => environment[other] ?? given);
      expect(filled, name).not.to.include('$(');
      return filled;
    }
    if (valueFrom?.fieldRef !== undefined) return valueFrom.fieldRef.fieldPath === 'metadata.name' ? pod : 'limits';
    if (valueFrom?.resourceFieldRef !== undefined) return String(mebibytes(node.resources?.limits?.['memory']));
    expect(valueFrom?.secretKeyRef?.name, name).to.equal('tokenring');
    return 'secret';
  };
  for (const variable of node.env!) environment[variable.name] = valueOf(variable);
  return environment;
}

describeWith('Kubernetes', 'kubectl', function () {
  this.timeout(60_000);
  const rendered = new Map<Variant, Rendered>();
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'tokenring-kubernetes-'));
    for (const variant of VARIANTS) rendered.set(variant, render(variant));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** The settings of a pod. Files of its volumes are stood in for. */
  function settingsOf(variant: Variant, pod: string): Settings {
    const environment = environmentOf(rendered.get(variant)!, pod);
    for (const [name, value] of Object.entries(environment)) {
      if (!value.startsWith('/')) continue;
      const { volumeMounts = [] } = rendered.get(variant)!.node;
      expect(
        volumeMounts.some(({ mountPath }) => value.startsWith(`${mountPath}/`)),
        `${value} is mounted`,
      ).to.equal(true);
      environment[name] = join(folder, basename(value));
      writeFileSync(environment[name], '');
    }
    const { POD_NAME, POD_NAMESPACE, ...ours } = environment;
    expect(POD_NAME).to.equal(pod);
    expect(POD_NAMESPACE).to.equal('limits');
    return readSettings([], ours);
  }

  for (const variant of VARIANTS) {
    it(`has settings that are valid together: ${variant}`, () => {
      const settings = settingsOf(variant, 'tokenring-1');
      expect(settings.advertise).to.equal('tokenring-1.tokenring-peers.limits.svc:9080');
      expect(settings.peerSecret).to.equal('secret');
    });
  }

  it('has only fields that Kubernetes knows, of the right types', () => {
    const all = VARIANTS.flatMap((variant) => rendered.get(variant)!.all);
    const misspelt = { ...all[0]!, specs: {} };
    // One run of the compiler for all. The last object shows that it finds mistakes.
    const mistakes = mistakesIn([...all, misspelt]);
    expect(mistakes, mistakes.join('\n')).to.have.length(1);
    expect(mistakes[0]).to.include('specs');
  });

  it('names the first pods as seeds, under the ids that they have, behind the headless service', () => {
    const { set, services } = rendered.get('base')!;
    const { replicas, serviceName } = set.spec!;
    const ids = Array.from({ length: replicas! }, (_, i) => settingsOf('base', `tokenring-${i}`).advertise!);
    expect(settingsOf('base', 'tokenring-0').peers).to.deep.equal(ids);
    const headless = services.find(({ metadata }) => metadata!.name === serviceName)!.spec!;
    expect(headless).to.include({ clusterIP: 'None', publishNotReadyAddresses: true });
    expect(headless.ports!.map(({ port }) => port)).to.include(9080);
  });

  it('finds members in etcd with one overlay, and demands certificates of peers with the other', () => {
    expect(settingsOf('overlays/etcd', 'tokenring-0')).to.deep.include({
      discovery: 'etcd',
      etcdEndpoints: ['http://etcd:2379'],
      peers: [],
    });
    expect(settingsOf('overlays/mtls', 'tokenring-0')).to.include({ peerTlsRequireClientCert: true });
  });

  it('selects the pods everywhere', () => {
    const { set, services, budget } = rendered.get('base')!;
    const { labels } = set.spec!.template.metadata!;
    expect(labels).to.deep.equal({ 'app.kubernetes.io/name': 'tokenring' });
    expect(set.spec!.selector.matchLabels).to.deep.equal(labels);
    expect(budget.spec!.selector!.matchLabels).to.deep.equal(labels);
    const [away] = set.spec!.template.spec!.affinity!.podAntiAffinity!.preferredDuringSchedulingIgnoredDuringExecution!;
    expect(away!.podAffinityTerm.labelSelector!.matchLabels).to.deep.equal(labels);
    for (const { spec } of services) expect(spec!.selector).to.deep.equal(labels);
  });

  it('gives a node the memory that it plans with, and time to hand over', () => {
    const { set, node } = rendered.get('base')!;
    const { requests, limits } = node.resources!;
    expect(limits!['memory']).to.equal(requests!['memory']);
    expect(settingsOf('base', 'tokenring-0').memoryMb)
      .to.equal(mebibytes(limits!['memory']))
      .and.to.be.at.least(MIN_MEMORY_MB);
    const [program, seconds] = node.lifecycle!.preStop!.exec!.command!;
    expect(program).to.equal('sleep');
    expect(set.spec!.template.spec!.terminationGracePeriodSeconds).to.be.above(Number(seconds) + STOP_S);
  });

  it('asks what the node answers, at the ports where it listens', () => {
    const { node } = rendered.get('base')!;
    const ports = new Map(node.ports!.map(({ name, containerPort }) => [name, containerPort]));
    const { port, peerPort } = settingsOf('base', 'tokenring-0');
    expect([ports.get('http'), ports.get('peers')]).to.deep.equal([port, peerPort]);
    const probes = [node.startupProbe, node.livenessProbe, node.readinessProbe].map((probe) => probe!.httpGet!);
    expect(probes.map(({ path }) => path)).to.deep.equal(['/healthz', '/healthz', '/readyz']);
    for (const probe of probes) expect(probe.port).to.equal('http');
  });
});
