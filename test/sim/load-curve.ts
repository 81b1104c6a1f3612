/** `npm run sim:load`: the load of a service of known capacity under an adaptive policy, as a table and as docs/load.svg. */
import { writeFileSync } from 'node:fs';
import { plotLoad } from './load-plot.js';
import { DAY, DAY_END_S, runService, settledAfterS, TARGET } from './load-service.js';

const seconds = await runService(DAY, TARGET, DAY_END_S);
for (const [i, { fromS, says, silent }] of DAY.entries()) {
  const toS = DAY[i + 1]?.fromS ?? DAY_END_S;
  const last = seconds.slice(toS - 20, toS);
  const loads = last.map(({ load }) => load);
  const mean = loads.reduce((a, b) => a + b) / loads.length;
  const settled =
    i === 0 || silent === true ? '' : `, settled after ${settledAfterS(seconds, TARGET.target, fromS, toS)} s`;
  const range = `${Math.min(...loads).toFixed(2)} to ${Math.max(...loads).toFixed(2)}`;
  process.stdout.write(
    `${fromS} s, ${says}: load of the last 20 s ${mean.toFixed(3)} (${range}), factor ${last.at(-1)!.factor}${settled}\n`,
  );
}
writeFileSync(new URL('../../docs/load.svg', import.meta.url), plotLoad(seconds, DAY, TARGET.target));
