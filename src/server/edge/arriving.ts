import { networkOf } from '../../lib/address.js';

/** Bound of a small body. All decisions except long batches are small. */
const SMALL_BYTES = 64 * 1024;

interface Share {
  all: number;
  large: number;
}

/**
 * The memory for bodies that have not arrived in full, `maxBytes` in all. Large bodies take at most half of it, and one
 * address at most half of each part. So large bodies shut out no small body, and one address shuts out no other.
 */
export class ArrivingBytes {
  readonly total: Share = { all: 0, large: 0 };
  readonly byNetwork = new Map<string, Share>();

  constructor(readonly maxBytes: number) {}

  begin(address: string | undefined): ArrivingBody {
    return new ArrivingBody(this, address ?? '');
  }
}

/** Bytes in memory of one body that has not arrived in full. */
export class ArrivingBody {
  private bytes = 0;
  private network = '';

  constructor(
    private readonly all: ArrivingBytes,
    private readonly address: string,
  ) {}

  /** @returns whether they fit; if not, the caller must refuse and release the body */
  add(bytes: number): boolean {
    const { total, byNetwork, maxBytes } = this.all;
    if (this.bytes === 0) this.network = networkOf(this.address);
    const own = byNetwork.get(this.network) ?? { all: 0, large: 0 };
    byNetwork.set(this.network, own);
    this.change(own, bytes);
    if (total.all > maxBytes || own.all > maxBytes / 2) return false;
    return this.bytes <= SMALL_BYTES || (total.large <= maxBytes / 2 && own.large <= maxBytes / 4);
  }

  release(): void {
    if (this.bytes === 0) return;
    const own = this.all.byNetwork.get(this.network)!;
    this.change(own, -this.bytes);
    if (own.all === 0) this.all.byNetwork.delete(this.network);
  }

  private change(own: Share, bytes: number): void {
    const before = this.bytes > SMALL_BYTES ? this.bytes : 0;
    this.bytes += bytes;
    const after = this.bytes > SMALL_BYTES ? this.bytes : 0;
    for (const share of [this.all.total, own]) {
      share.all += bytes;
      share.large += after - before;
    }
  }
}
