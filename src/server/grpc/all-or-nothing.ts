import type { Settler } from '../../node/decide/settler.js';
import { CheckBatch, type BatchDecider, type BatchItem } from '../../limits/decide/check-batch.js';
import { createCheck, type CheckFields } from '../../limits/decide/check.js';
import { newReservation } from '../validate/request.js';

/**
 * Decides checks of several clients together: if one of them is denied, none consumes anything. First all checks peek,
 * so that a denial usually costs nothing. Then they take. Where this node owns all clients, no other check comes between
 * the two, and the result is exact. Otherwise the checks take reservations, and if one is denied after all, the others
 * are settled at 0. A check that another one stopped has the decision of its peek.
 */
export class AllOrNothing implements BatchDecider {
  constructor(
    private readonly limiter: BatchDecider,
    private readonly settler: Pick<Settler, 'settle'>,
  ) {}

  decide(batch: CheckBatch): Promise<void> | undefined {
    const peeks = changed(batch, () => ({ peek: true }));
    const later = this.limiter.decide(peeks);
    return later === undefined ? this.take(batch, peeks, true) : later.then(() => this.take(batch, peeks, false));
  }

  /** @param atOnce whether nothing else has been decided since the peeks */
  private take(batch: CheckBatch, peeks: CheckBatch, atOnce: boolean): Promise<void> | undefined {
    const isFinal = peeks.items.some((item) => !isAllowed(item)) || batch.items.every(({ params }) => params.peek);
    if (isFinal) {
      for (const item of batch.items) copy(peeks.items[item.index]!, item);
      return undefined;
    }
    return atOnce && isCertain(batch, peeks) ? this.takeEach(batch) : this.reserve(batch, peeks);
  }

  /** Takes one check after the other: a batch may have to wait for a later turn of the event loop. */
  private takeEach(batch: CheckBatch): Promise<void> | undefined {
    const later: Promise<void>[] = [];
    for (const item of batch.items) {
      const alone = CheckBatch.of([item.check]);
      const taken = (): void => copy(alone.items[0]!, item);
      const waits = this.limiter.decide(alone);
      if (waits === undefined) taken();
      else later.push(waits.then(taken));
    }
    return later.length === 0 ? undefined : Promise.all(later).then(() => undefined);
  }

  private async reserve(batch: CheckBatch, peeks: CheckBatch): Promise<void> {
    const reserving = changed(batch, ({ clientId }) => ({ reservation: newReservation(clientId, undefined) }));
    await this.limiter.decide(reserving);
    const stands = reserving.items.every(isAllowed);
    const settled = reserving.items.map(async ({ error, extras, clientId, params }) => {
      if (error !== undefined || extras?.reservation === undefined) return;
      // A reservation that is left open keeps memory, and keeps other nodes from remembering denials of its client.
      await this.settler.settle(clientId, extras.reservation, stands ? params.cost : 0);
    });
    if (!stands) await Promise.all(settled);
    for (const item of batch.items) {
      const reserved = reserving.items[item.index]!;
      copy(stands || !isAllowed(reserved) ? reserved : peeks.items[item.index]!, item);
    }
  }
}

/** The same checks with other fields, except for those that peek. */
function changed(batch: CheckBatch, fieldsOf: (item: BatchItem) => Partial<CheckFields>): CheckBatch {
  return CheckBatch.of(
    batch.items.map((item) => {
      const { check } = item;
      return check.peek ? check : createCheck(check, check.rules, { ...check, ...fieldsOf(item) });
    }),
  );
}

function isAllowed({ error, allowed }: BatchItem): boolean {
  return error === undefined && allowed;
}

function copy(from: BatchItem, to: BatchItem): void {
  if (from.error !== undefined) return to.fail(from.error);
  to.record(from, from.provenance!);
  to.extras = from.extras;
}

/** Whether the checks are certain to get the answers that their peeks just got. */
function isCertain(batch: CheckBatch, peeks: CheckBatch): boolean {
  const clients = new Set(batch.items.map(({ clientId }) => clientId));
  return (
    clients.size === batch.size &&
    batch.items.every(({ params }) => !params.replicated) &&
    peeks.items.every(({ provenance }) => provenance!.source === 'owner' && !provenance!.degraded)
  );
}
