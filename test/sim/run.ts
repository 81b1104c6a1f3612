import { parseArgs } from 'node:util';
import { check, type Violation } from './checker.js';
import { generateScenario } from './generate.js';
import type { Fault, History } from './history.js';
import { THEMES, type Scenario, type Theme } from './scenario.js';
import { shrink } from './shrink.js';
import { simulate } from './simulate.js';

const USAGE = `npm run sim -- --seed N [--log] [--shrink]    replays one run
npm run sim -- --seeds N [--from M] [--theme T]   explores
  --etcd: with members in a simulated etcd`;

/** Of a short story: no heartbeats, nothing that only says that a message came. */
const UNTOLD = /"kind":"(heartbeat|members|kept)"/;
const TOLD_LINES = 150;
const TOLD_WIDTH = 240;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string', default: '1' },
    theme: { type: 'string' },
    log: { type: 'boolean', default: false },
    shrink: { type: 'boolean', default: false },
    etcd: { type: 'boolean', default: false },
  },
});

/** Members that find each other, or an etcd that they are written down in. */
const kind = values.etcd ? { etcdRate: 1 } : {};
const theme = THEMES.find((known) => known === values.theme);
if (values.seed !== undefined) await replay(Number(values.seed), theme);
else if (values.seeds !== undefined) await explore(Number(values.from), Number(values.seeds), theme);
else console.log(USAGE);

async function replay(seed: number, only: Theme | undefined): Promise<void> {
  const scenario = generateScenario(seed, only);
  const { history, log } = await simulate(scenario, { log: values.log, ...kind });
  for (const line of log) console.log(line);
  const violations = check(history);
  console.log(describe(scenario, history));
  report(violations);
  if (violations.length > 0 && values.shrink) await tell(scenario, violations[0]!);
}

async function explore(from: number, count: number, only: Theme | undefined): Promise<void> {
  const startedMs = performance.now();
  let failed = 0;
  for (let seed = from; seed < from + count; seed += 1) {
    const scenario = generateScenario(seed, only);
    const violations = check((await simulate(scenario, kind)).history);
    const seconds = (performance.now() - startedMs) / 1_000;
    if ((seed - from + 1) % 1_000 === 0)
      console.log(`${seed - from + 1} seeds, ${failed} failed, ${seconds.toFixed(0)} s`);
    if (violations.length === 0) continue;
    failed += 1;
    console.log(`seed ${seed} (${scenario.theme}, ${scenario.nodes.length} nodes)`);
    report(violations);
    if (failed === 1) await tell(scenario, violations[0]!);
  }
  const seconds = (performance.now() - startedMs) / 1_000;
  console.log(`${count} seeds, ${failed} failed, ${seconds.toFixed(1)} s, ${(count / seconds).toFixed(1)} a second`);
  if (failed > 0) process.exitCode = 1;
}

/** The shortest story that still fails. The whole of it can be had with `--log`. */
async function tell(scenario: Scenario, { check: failing }: Violation): Promise<void> {
  const shortest = await shrink(scenario, failing, kind);
  const { history, log } = await simulate(shortest, { log: true, ...kind });
  const { nodes, steps, requests, writes = [], ...rest } = shortest;
  console.log(`\nThe short story of seed ${scenario.seed}:`);
  console.log(JSON.stringify(rest));
  for (const node of nodes) console.log(`  ${JSON.stringify(node)}`);
  for (const step of steps) console.log(`  ${JSON.stringify(step)}`);
  for (const write of writes) console.log(`  ${JSON.stringify(write)}`);
  console.log(`  ${requests.length} requests`);
  const told = log.filter((line) => !UNTOLD.test(line) && Number.parseFloat(line) >= history.upMs);
  for (const line of told.slice(0, TOLD_LINES)) console.log(`  ${line.slice(0, TOLD_WIDTH)}`);
  if (told.length > TOLD_LINES) console.log(`  and ${told.length - TOLD_LINES} lines more`);
  console.log(describe(shortest, history));
  report(check(history));
}

function report(violations: readonly Violation[]): void {
  for (const { check: name, message } of violations.slice(0, 5)) console.log(`  ${name}: ${message}`);
  if (violations.length > 5) console.log(`  and ${violations.length - 5} more`);
}

function describe({ seed, theme: drawn, nodes }: Scenario, { asked, faults, endMs }: History): string {
  const allowed = asked.filter(({ decision }) => decision?.allowed === true).length;
  const happened = faults.map(describeFault).join(', ');
  return `seed ${seed}: ${drawn}, ${nodes.length} nodes, ${endMs} ms, ${asked.length} asked, ${allowed} allowed; ${happened}`;
}

function describeFault(fault: Fault): string {
  const where = 'node' in fault ? ` ${fault.node}` : '';
  return `${fault.kind}${where} ${fault.fromMs.toFixed(0)}-${fault.toMs.toFixed(0)}`;
}
