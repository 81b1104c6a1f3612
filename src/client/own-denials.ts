import type { AllowRequest } from '../limits/request/request.js';
import { clientKey } from '../limits/ring/client-hash.js';
import { Summary } from '../lib/space-saving.js';
import { MAX_LISTED, MAX_REPORTED, NAME_BYTES, type DenialReport } from '../limits/top-clients.js';
import type { Time } from './runtime.js';

/** Time from the first denial to the report of all since then. */
const REPORT_MS = 1_000;
/** Stands for the default policy among the names of policies. */
const DEFAULT = '';

/**
 * Counts the denials that the client answers from memory, which no node sees, and reports them about once a second: their
 * number, and the clients that are denied most. The memory is bounded. A report that fails is lost.
 */
export class OwnDenials {
  private denied = 0;
  private clients: Summary | undefined;
  private cancel: () => void = () => undefined;

  /** @param send sends a report to the best node for a client; never rejects */
  constructor(
    private readonly time: Pick<Time, 'after'>,
    private readonly send: (clientId: string, report: DenialReport) => Promise<void>,
  ) {}

  count(request: AllowRequest): void {
    if (this.denied === 0) this.cancel = this.time.after(REPORT_MS, () => void this.report());
    this.denied += 1;
    if (request.peek !== true) this.countClient(request);
    if (this.denied === MAX_REPORTED) void this.report();
  }

  private countClient({ clientId, limit, limits, policy }: AllowRequest): void {
    const under = policy ?? (limit === undefined && limits === undefined ? DEFAULT : undefined);
    // These counts do not decay: the time is always 0.
    this.clients ??= new Summary({ size: MAX_LISTED, nameBytes: NAME_BYTES, decayMs: Infinity });
    this.clients.add({ clientId, policy: under, hash: clientKey(clientId).hashHigh }, 1, 0, 0);
  }

  /** Reports what has been counted since the last report. */
  async report(): Promise<void> {
    this.cancel();
    const { denied, clients } = this;
    this.denied = 0;
    this.clients = undefined;
    if (denied === 0) return;
    // A newcomer's count may be too high by its error, so at least this many are its own.
    const listed = (clients?.list(0) ?? [])
      .map(({ clientId, policy, count, error }) => ({
        clientId,
        ...(policy !== undefined && { policy: policy === DEFAULT ? (true as const) : policy }),
        denied: count - error,
      }))
      .filter((one) => one.denied > 0);
    await this.send(listed[0]?.clientId ?? '', { denied, clients: listed });
  }
}
