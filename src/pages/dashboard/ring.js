import { find, s, setText } from './dom.js';
import { percent, plural } from './format.js';

/** @typedef {import('../../server/http/api/cluster-view.js').ClusterDescription} ClusterDescription */

/** The member that owns a client, those after it, and where the client is on the ring, from 0 to 1. */
/** @typedef {{ owner: string, successors: readonly string[], point: number }} Place */

const SIZE = 400;
const CENTRE = SIZE / 2;
const OUTER = 176;
const INNER = 138;
/** The circle of all hashes, on which a client is a point. */
const TRACK = 112;
/** More labels would cover each other. */
const MAX_LABELS = 12;
const MAX_SUCCESSORS = 2;

/**
 * The middle of each arc, as a fraction of the circle.
 * @param {ClusterDescription['members']} members
 */
function arcsOf(members) {
  let from = 0;
  return members
    .map((member, i) => ({ member, i }))
    .filter(({ member }) => member.share > 0)
    .map(({ member, i }) => {
      const start = from;
      from += member.share;
      return { member, i, start, end: from, middle: (start + from) / 2 };
    });
}

/**
 * @param {number} radius
 * @param {number} part of the circle, clockwise from the top
 */
function at(radius, part) {
  const angle = part * 2 * Math.PI;
  return /** @type {const} */ ([CENTRE + radius * Math.sin(angle), CENTRE - radius * Math.cos(angle)]);
}

/** @param {readonly [number, number]} point */
const text = ([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`;

/**
 * @param {number} start
 * @param {number} end
 */
function arcPath(start, end) {
  // A full circle has no two ends, so it is drawn a little short.
  const last = Math.min(end, start + 0.9999);
  const large = last - start > 0.5 ? 1 : 0;
  return (
    `M${text(at(OUTER, start))}A${OUTER} ${OUTER} 0 ${large} 1 ${text(at(OUTER, last))}` +
    `L${text(at(INNER, last))}A${INNER} ${INNER} 0 ${large} 0 ${text(at(INNER, start))}Z`
  );
}

/** Draws the ring. Members far apart in the list have colours far apart: the hue turns by the golden angle. */
export function createRing() {
  const place = find('#ring-picture');
  const absent = find('#absent');
  let drawn = '';
  /** @type {Place | undefined} */
  let client;
  /** @type {ClusterDescription | undefined} */
  let cluster;

  function draw() {
    if (cluster === undefined) return;
    const { members } = cluster;
    const shown = members.map(({ id, state, share }) => [id, state, share]);
    const next = JSON.stringify([shown, client, cluster.ringChecksum]);
    if (next === drawn) return;
    drawn = next;
    const arcs = arcsOf(members);
    const label = `The ring of ${plural(arcs.length, 'member')}`;
    const picture = s('svg', { viewBox: `0 0 ${SIZE} ${SIZE}`, role: 'img', 'aria-label': label });
    picture.append(s('circle', { class: 'track', cx: CENTRE, cy: CENTRE, r: TRACK }));
    for (const arc of arcs) picture.append(drawArc(arc));
    if (arcs.length <= MAX_LABELS) for (const arc of arcs) picture.append(drawLabel(arc));
    if (client !== undefined) picture.append(...drawClient(client, arcs));
    picture.append(
      s('text', { class: 'middle', x: CENTRE, y: CENTRE - 4 }, plural(arcs.length, 'member')),
      s('text', { class: 'small', x: CENTRE, y: CENTRE + 18 }, `ring ${cluster.ringChecksum.slice(0, 8)}`),
    );
    place.replaceChildren(picture);
    const out = members.filter(({ share }) => share <= 0).map(({ id, state }) => `${id} (${state})`);
    setText(
      absent,
      out.length === 0 ? '' : `Not in the ring: ${out.slice(0, 10).join(', ')}${out.length > 10 ? ' …' : ''}`,
    );
  }

  return {
    /** @param {ClusterDescription} next */
    show(next) {
      cluster = next;
      draw();
    },
    /** @param {Place | undefined} next */
    mark(next) {
      client = next;
      draw();
    },
  };
}

/** @typedef {ReturnType<typeof arcsOf>[number]} Arc */

/** @param {Arc} arc */
function drawArc({ member, i, start, end }) {
  const title = `${member.id}: ${member.state}, ${percent(member.share)} of the ring`;
  const arc = s('path', { class: `arc ${member.state}`, d: arcPath(start, end) }, s('title', {}, title));
  arc.style.setProperty('--hue', String(hueOf(i)));
  return arc;
}

/** @param {Arc} arc */
function drawLabel({ member, middle }) {
  const [x, y] = at((OUTER + INNER) / 2, middle);
  return s('text', { class: 'share', x: x.toFixed(1), y: (y + 4).toFixed(1) }, percent(member.share));
}

/** @param {number} i place of the member in the list */
export function hueOf(i) {
  return Math.round((i * 137.508 + 230) % 360);
}

/**
 * Draws the client on the circle of hashes, with a line to its owner and thin ones to the next members.
 * @param {Place} place
 * @param {readonly Arc[]} arcs
 */
function drawClient({ owner, successors, point }, arcs) {
  const [x, y] = at(TRACK, point);
  const line = (/** @type {string} */ id, /** @type {string} */ kind) => {
    const arc = arcs.find(({ member }) => member.id === id);
    if (arc === undefined) return [];
    const [toX, toY] = at(INNER - 2, arc.middle);
    return [
      s('path', { class: `to ${kind}`, d: `M${x.toFixed(1)} ${y.toFixed(1)}L${toX.toFixed(1)} ${toY.toFixed(1)}` }),
    ];
  };
  return [
    ...successors.slice(0, MAX_SUCCESSORS).flatMap((id) => line(id, 'successor')),
    ...line(owner, 'owner'),
    s('circle', { class: 'point', cx: x.toFixed(1), cy: y.toFixed(1), r: 6 }, s('title', {}, 'the client')),
  ];
}
