import type { Registered } from '../cluster/registered.js';
import type { Add } from './store-metrics.js';

/** What there is to watch of a node whose members, and policies, are in etcd. */
export function addEtcdMetrics(
  { counter, gauge }: { readonly counter: Add; readonly gauge: Add },
  { enrolment, membership }: Pick<Registered, 'enrolment' | 'membership'>,
): void {
  const one = (read: () => number) => () => [[{}, read()] as const];
  const revision = 'Revision of etcd that the ring is made from';
  gauge(
    'tokenring_etcd_revision',
    revision,
    [],
    one(() => membership.epoch),
  );
  const lease = 'How long this node may still count on its lease in etcd, 0 when it may not';
  gauge(
    'tokenring_etcd_lease_seconds',
    lease,
    [],
    one(() => enrolment.leaseLeftMs / 1_000),
  );
  const valid = 'Whether the policies in etcd are valid: 0 while those that were read before stay in force';
  gauge(
    'tokenring_etcd_policies_valid',
    valid,
    [],
    one(() => Number(enrolment.filing.known?.filed.kind !== 'unreadable')),
    'min',
  );
  const failed = 'What etcd did not answer, or not in time, by what was tried; watch: those that ended';
  counter('tokenring_etcd_failures_total', failed, ['what'], () =>
    Object.entries(enrolment.failures).map(([what, count]) => [{ what }, count] as const),
  );
}
