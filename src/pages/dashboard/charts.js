import { find, h, setText } from './dom.js';
import { bytes, count, duration, percent } from './format.js';
import { quantile, SOURCES } from './rates.js';
import { colour } from './theme.js';
import { worst } from './tiles.js';

/** @typedef {import('./rates.js').Sample} Sample */
/** @typedef {{ label: string, colour: string, value: (sample: Sample) => number | null | undefined }} Line */
/** @typedef {{ title: string, format: (value: number | null | undefined) => string, lines: readonly Line[] }} Chart */

const SECONDS = 300;
const MIN_SECONDS = 0.4;
/** A young page draws fewer, over the whole width. */
const FIRST_SECONDS = 30;
const HEIGHT = 160;

/** @type {readonly Chart[]} */
const CHARTS = [
  {
    title: 'Decisions per second by outcome',
    format: count,
    lines: [
      { label: 'allowed', colour: '--good', value: ({ total }) => total?.allowed },
      { label: 'denied', colour: '--bad', value: ({ total }) => total?.denied },
    ],
  },
  {
    title: 'Decisions per second by source',
    format: count,
    lines: SOURCES.map((source, i) => ({
      label: source,
      colour: `--line-${i + 1}`,
      value: ({ total }) => total?.bySource[source],
    })),
  },
  {
    title: 'Latency at the nodes',
    format: duration,
    lines: [
      { label: 'p50', colour: '--line-1', value: ({ total }) => total && quantile(total.durations, 0.5) },
      { label: 'p99', colour: '--line-5', value: ({ total }) => total && quantile(total.durations, 0.99) },
    ],
  },
  {
    title: 'Replication lag of the slowest member',
    format: duration,
    lines: [{ label: 'lag', colour: '--line-2', value: (sample) => worst(sample, 'replicationLagMs') }],
  },
  {
    title: 'CPU of a member',
    format: percent,
    lines: [
      { label: 'busiest', colour: '--line-5', value: ({ rates }) => busiest(rates) },
      { label: 'average', colour: '--line-1', value: ({ total }) => total?.busy },
    ],
  },
  {
    title: 'Memory of a member',
    format: bytes,
    lines: [
      { label: 'largest', colour: '--line-3', value: ({ reports }) => of(reports, (all) => Math.max(...all)) },
      { label: 'smallest', colour: '--line-4', value: ({ reports }) => of(reports, (all) => Math.min(...all)) },
    ],
  },
];

/** @param {Sample['reports']} reports @param {(all: readonly number[]) => number} choose */
function of(reports, choose) {
  return reports.size === 0 ? null : choose([...reports.values()].map(({ memoryBytes }) => memoryBytes));
}

/** @param {Sample['rates']} rates */
function busiest(rates) {
  return rates.size === 0 ? null : Math.max(...[...rates.values()].map(({ busy }) => busy));
}

/** Draws the samples of the last five minutes. */
export function createCharts() {
  const charts = CHARTS.map((chart) => createChart(chart));
  find('#chart-grid').replaceChildren(...charts.map(({ figure }) => figure));
  return {
    /** @param {Sample} sample */
    add(sample) {
      for (const { add } of charts) add(sample);
    },
    /** Draws again with the colours of the theme. */
    redraw() {
      for (const { redraw } of charts) redraw();
    },
  };
}

/** @param {Chart} chart */
function createChart({ title, format, lines }) {
  /** @type {number[]} */
  const times = [];
  /** @type {(number | null)[][]} */
  const values = lines.map(() => []);
  const legend = lines.map((line) => {
    const mark = h('span', { class: 'mark', 'aria-hidden': 'true' });
    mark.style.setProperty('--mark', `var(${line.colour})`);
    const value = h('span', { class: 'figure' }, '–');
    return { value, entry: h('span', { class: 'entry' }, mark, `${line.label} `, value) };
  });
  const canvas = h('div', { class: 'canvas', 'aria-hidden': 'true' });
  const caption = h('figcaption', {}, h('strong', {}, title), ...legend.map(({ entry }) => entry));
  const figure = h('figure', {}, caption, canvas);
  /** The sample under the pointer; without one, the last is described. */
  /** @type {number | null | undefined} */
  let pointed;

  function describe() {
    const i = pointed ?? times.length - 1;
    for (const [n, { value }] of legend.entries()) setText(value, format(values[n]?.[i]));
  }

  const plot = new window.uPlot(
    {
      ...optionsOf(format, lines),
      hooks: { setCursor: [(self) => ((pointed = self.cursor.idx), describe())] },
    },
    [[], ...lines.map(() => [])],
    canvas,
  );
  new ResizeObserver(() => {
    if (canvas.clientWidth > 0) plot.setSize({ width: canvas.clientWidth, height: HEIGHT });
  }).observe(canvas);

  return {
    figure,
    redraw: () => plot.redraw(false, true),
    /** @param {Sample} sample */
    add(sample) {
      const seconds = sample.atMs / 1_000;
      // A new reader of the stream brings all others a sample between two seconds.
      if (seconds - (times.at(-1) ?? 0) < MIN_SECONDS) return;
      times.push(seconds);
      for (const [n, line] of lines.entries()) values[n]?.push(line.value(sample) ?? null);
      while (times.length > 0 && Number(times[0]) < seconds - SECONDS) {
        times.shift();
        for (const one of values) one.shift();
      }
      if (document.hidden) return;
      plot.setData([times, ...values], false);
      const first = Math.min(times[0] ?? seconds, seconds - FIRST_SECONDS);
      plot.setScale('x', { min: first, max: seconds });
      describe();
    },
  };
}

/**
 * @param {(value: number) => string} format
 * @param {readonly Line[]} lines
 * @returns {import('uplot').Options}
 */
function optionsOf(format, lines) {
  const axis = () => ({
    stroke: () => colour('--muted'),
    font: '11px system-ui, sans-serif',
    grid: { stroke: () => colour('--rule'), width: 1 },
    ticks: { stroke: () => colour('--rule'), width: 1, size: 4 },
  });
  return {
    width: 400,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false, setScale: false }, sync: { key: 'tokenring' } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [
      {
        ...axis(),
        size: 28,
        space: 70,
        values: (_, splits) => splits.map((at) => new Date(at * 1_000).toTimeString().slice(0, 8)),
      },
      { ...axis(), size: 62, space: 34, values: (_, splits) => splits.map((value) => format(value)) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.label,
        stroke: () => colour(line.colour),
        width: 2,
        points: { show: false },
      })),
    ],
  };
}
