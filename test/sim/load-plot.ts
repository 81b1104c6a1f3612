import type { Phase, Second } from './load-service.js';
import { drawSvg, round } from './svg.js';

const WIDTH = 760;
const HEIGHT = 300;
const LEFT = 44;
const RIGHT = 12;
const TOP = 54;
const BOTTOM = 30;
const MAX = 2;

const STYLE = `.phase { stroke: currentColor; opacity: 0.2 } .small { font-size: 10px }
  .load { stroke: #0969da; fill: none; stroke-width: 1.5 } .factor { stroke: #1a7f37; fill: none; stroke-width: 1.5 }
  .target { stroke: #bc4c00; stroke-dasharray: 4 3 } .says { fill: #bc4c00 } .blue { fill: #0969da } .green { fill: #1a7f37 }`;
const DARK = `.load { stroke: #58a6ff } .blue { fill: #58a6ff } .factor { stroke: #3fb950 } .green { fill: #3fb950 }
    .target { stroke: #f0883e } .says { fill: #f0883e }`;

/** Load and factor over time, with what happened, as a picture of its own. */
export function plotLoad(seconds: readonly Second[], phases: readonly Phase[], target: number): string {
  const x = (s: number): number => round(LEFT + (s / seconds.length) * (WIDTH - LEFT - RIGHT));
  const y = (value: number): number => round(HEIGHT - BOTTOM - (Math.min(MAX, value) / MAX) * (HEIGHT - TOP - BOTTOM));
  const line = (kind: string, of: (second: Second) => number): string =>
    `<polyline class="${kind}" points="${seconds.map((one) => `${x(one.s)},${y(of(one))}`).join(' ')}"/>`;
  const parts = [
    `<text x="${LEFT}" y="16"><tspan class="blue">load: admitted, of what the service can do</tspan> · <tspan class="green">factor: part of the limits in force</tspan></text>`,
    ...[0, 0.5, 1, 1.5, 2].flatMap((value) => [
      `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(value)}" y2="${y(value)}"/>`,
      `<text x="${LEFT - 6}" y="${y(value) + 4}" text-anchor="end">${value}</text>`,
    ]),
    ...phases.flatMap(({ fromS, says }, i) => [
      `<line class="phase" x1="${x(fromS)}" x2="${x(fromS)}" y1="${TOP}" y2="${HEIGHT - BOTTOM}"/>`,
      `<text class="small" x="${x(fromS) + 2}" y="${i % 2 === 0 ? TOP - 20 : TOP - 7}">${says}</text>`,
      `<text x="${x(fromS)}" y="${HEIGHT - 10}" text-anchor="middle">${fromS} s</text>`,
    ]),
    `<line class="target" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y(target)}" y2="${y(target)}"/>`,
    `<text class="says" x="${WIDTH - RIGHT}" y="${y(target) - 5}" text-anchor="end">target ${target}</text>`,
    line('factor', ({ factor }) => factor),
    line('load', ({ load }) => load),
  ];
  return drawSvg({ width: WIDTH, height: HEIGHT, label: 'Load and factor over time', style: STYLE, dark: DARK }, parts);
}
