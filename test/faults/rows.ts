import type { Row } from './row.js';
import { clocks } from './rows/clocks.js';
import { frozen } from './rows/frozen.js';
import { joined } from './rows/joined.js';
import { killed, killedTwo } from './rows/killed.js';
import { lossy } from './rows/lossy.js';
import { burst, saturated, starved } from './rows/overloaded.js';
import { restartedLmdb, restartedRedis } from './rows/restarted.js';
import { cutBothWays, cutOneWay, cutPair, etcdCutOff, etcdDown, etcdLeader, etcdNotPeers } from './rows/partition.js';
import { STRICT_ROWS } from './rows/strict.js';
import { rolled, stopped } from './rows/stopped.js';

/** In the order of the table. */
export const ROWS: readonly Row[] = [
  killed,
  frozen,
  stopped,
  rolled,
  joined,
  cutBothWays,
  cutOneWay,
  cutPair,
  lossy,
  killedTwo,
  clocks,
  burst,
  starved,
  saturated,
  restartedLmdb,
  restartedRedis,
  etcdLeader,
  etcdDown,
  etcdCutOff,
  etcdNotPeers,
  ...STRICT_ROWS,
];
