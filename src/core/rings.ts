import { memberPoints } from './member-points.js';
import { createRings } from './ring.js';

/** The rings of nodes. */
export const { createRing, prepareRing } = createRings(memberPoints);
