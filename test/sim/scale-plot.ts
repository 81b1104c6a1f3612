import type { Scale } from './scale-measure.js';
import { drawSvg, round } from './svg.js';

/** One panel: a figure over the number of nodes. */
interface Panel {
  readonly title: string;
  readonly of: (scale: Scale) => number;
  readonly max: number;
  /** A line across, and what it says. */
  readonly bound: number;
  readonly says: string;
  readonly tick: (value: number) => string;
}

const WIDTH = 340;
const HEIGHT = 230;
const LEFT = 50;
const RIGHT = 16;
const TOP = 40;
const BOTTOM = 36;

const STYLE = `.line { stroke: #0969da; fill: none; stroke-width: 2 } .dot { fill: #0969da }
  .bound { stroke: #bc4c00; stroke-dasharray: 4 3 } .says { fill: #bc4c00 } .title { font-weight: 600 }`;
const DARK = `.line { stroke: #58a6ff } .dot { fill: #58a6ff } .bound { stroke: #f0883e } .says { fill: #f0883e }`;

/** Four panels over a logarithmic axis of nodes, as a picture of its own. @param scales in ascending order */
export function plot(scales: readonly Scale[], panels: readonly Panel[]): string {
  const drawn = panels.map((panel, i) => {
    const place = `translate(${(i % 2) * WIDTH} ${Math.floor(i / 2) * HEIGHT})`;
    return `<g transform="${place}">${drawPanel(scales, panel)}</g>`;
  });
  const height = Math.ceil(panels.length / 2) * HEIGHT;
  const label = 'What grows with the number of nodes';
  return drawSvg({ width: 2 * WIDTH, height, label, style: STYLE, dark: DARK }, drawn);
}

function drawPanel(scales: readonly Scale[], { title, of, max, bound, says, tick }: Panel): string {
  const least = Math.log(scales[0]!.nodes);
  const most = Math.log(scales.at(-1)!.nodes);
  const x = (nodes: number): number =>
    round(LEFT + ((Math.log(nodes) - least) / (most - least)) * (WIDTH - LEFT - RIGHT));
  const y = (value: number): number => round(HEIGHT - BOTTOM - (value / max) * (HEIGHT - TOP - BOTTOM));
  const right = WIDTH - RIGHT;
  const text = (at: string, words: string, kind = ''): string => `<text ${at} ${kind}>${words}</text>`;
  const measured = scales.filter((scale) => !Number.isNaN(of(scale)));
  const points = measured.map((scale) => ({ x: x(scale.nodes), y: y(of(scale)), nodes: scale.nodes }));
  return [
    text(`x="${LEFT}" y="22"`, title, 'class="title"'),
    ...[0, max / 2, max].flatMap((value) => [
      `<line class="axis" x1="${LEFT}" x2="${right}" y1="${y(value)}" y2="${y(value)}"/>`,
      text(`x="${LEFT - 6}" y="${y(value) + 4}"`, tick(value), 'text-anchor="end"'),
    ]),
    `<line class="bound" x1="${LEFT}" x2="${right}" y1="${y(bound)}" y2="${y(bound)}"/>`,
    text(`x="${LEFT + 4}" y="${y(bound) - 5}"`, says, 'class="says"'),
    `<polyline class="line" points="${points.map((point) => `${point.x},${point.y}`).join(' ')}"/>`,
    ...points.flatMap((point) => [
      `<circle class="dot" cx="${point.x}" cy="${point.y}" r="3.5"/>`,
      text(`x="${point.x}" y="${HEIGHT - BOTTOM + 18}"`, String(point.nodes), 'text-anchor="middle"'),
    ]),
  ].join('\n');
}
