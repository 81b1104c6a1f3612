/**
 * `npx tsx test/attacks/pages-under-load.ts [seconds] [--only NAME] [--dist FOLDER]`, after `npm run build`: three nodes
 * decide a few questions a second while many connections ask one of them for something else. Prints for each attack the
 * share of decisions that were answered, their latencies beside those of the calm before, and the rings that were seen.
 *
 * The nodes have one core. The load and the attackers have the other, the attackers at a lower priority. Ends with 1 if
 * less than 99% of the decisions were answered, the p99 was more than five times that of the calm, or the ring changed.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { GENERATOR_CORE, hasTaskset, SERVER_CORE } from '../bench/machine.js';
import { attacksOn, startAttack } from './attackers.js';
import { startAskedRing } from './asked-ring.js';

const CALM_MS = 4_000;
const PER_SECOND = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { only: { type: 'string' }, dist: { type: 'string' } },
});
const attackMs = 1_000 * Number(positionals[0] ?? 6);
if (hasTaskset) spawnSync('taskset', ['-a', '-c', '-p', String(GENERATOR_CORE), String(process.pid)]);
const ring = await startAskedRing(SERVER_CORE, values.dist ?? join(import.meta.dirname, '../../dist/esm'));
const attacks = attacksOn(ring);

let failed = 0;
await ring.ask(PER_SECOND, 2_000);
for (const [name, attack] of Object.entries(attacks)) {
  if (values.only !== undefined && !name.includes(values.only)) continue;
  await ring.settled();
  const calm = await ring.ask(PER_SECOND, CALM_MS);
  const end = startAttack(attack);
  await sleep(1_000);
  const attacked = await ring.ask(PER_SECOND, attackMs);
  const answers = await end();
  const holds = attacked.answered >= 0.99 * attacked.asked && attacked.p99Ms <= 5 * calm.p99Ms && attacked.rings === 1;
  if (!holds) failed += 1;
  const row = [
    `${attacked.answered} of ${attacked.asked} answered`,
    `p50 ${calm.p50Ms.toFixed(1)} → ${attacked.p50Ms.toFixed(1)} ms`,
    `p99 ${calm.p99Ms.toFixed(1)} → ${attacked.p99Ms.toFixed(1)} ms`,
    `${attacked.rings - 1} ring changes`,
    `${attacked.fallbacks} by fallback`,
    `${answers} answers to the attackers`,
  ];
  process.stdout.write(`${name}: ${row.join(', ')}${holds ? '' : ' DOES NOT HOLD'}\n`);
}
await ring.stop();
process.exit(failed === 0 ? 0 : 1);
