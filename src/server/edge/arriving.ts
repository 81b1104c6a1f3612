import { networkOf } from '../../lib/address.js';

/** Bound of a small body. All decisions except long batches are small. */
const SMALL_BYTES = 64 * 1024;

/** Bytes in memory of one body that has not arrived in full. */
interface ArrivingBody {
  /** @returns whether they fit; if not, the caller must refuse and release the body */
  add(bytes: number): boolean;
  release(): void;
}

/**
 * The memory for bodies that have not arrived in full, `maxBytes` in all. Large bodies take at most half of it, and one
 * address at most half of each part. So large bodies shut out no small body, and one address shuts out no other.
 */
export interface ArrivingBytes {
  begin(address: string | undefined): ArrivingBody;
}

interface Share {
  all: number;
  large: number;
}

export function createArrivingBytes(maxBytes: number): ArrivingBytes {
  const total: Share = { all: 0, large: 0 };
  const byNetwork = new Map<string, Share>();

  return {
    begin(address) {
      let held = 0;
      let network = '';
      const change = (share: Share, bytes: number): void => {
        const before = held > SMALL_BYTES ? held : 0;
        const after = held + bytes > SMALL_BYTES ? held + bytes : 0;
        share.all += bytes;
        share.large += after - before;
      };
      return {
        add(bytes) {
          if (held === 0) network = networkOf(address ?? '');
          const own = byNetwork.get(network) ?? { all: 0, large: 0 };
          byNetwork.set(network, own);
          change(total, bytes);
          change(own, bytes);
          held += bytes;
          if (total.all > maxBytes || own.all > maxBytes / 2) return false;
          return held <= SMALL_BYTES || (total.large <= maxBytes / 2 && own.large <= maxBytes / 4);
        },
        release() {
          if (held === 0) return;
          const own = byNetwork.get(network)!;
          const bytes = -held;
          change(total, bytes);
          change(own, bytes);
          held = 0;
          if (own.all === 0) byNetwork.delete(network);
        },
      };
    },
  };
}
