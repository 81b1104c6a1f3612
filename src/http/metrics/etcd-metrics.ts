import type { RegistryStats } from '../../cluster/node-stats.js';
import type { MetricKinds } from './metric-kinds.js';

/** What there is to watch of a node whose members, and policies, are in etcd. */
export function addEtcdMetrics({ counter, gauge }: MetricKinds, stats: () => RegistryStats): void {
  gauge.one('tokenring_etcd_revision', 'Revision of etcd that the ring is made from', () => stats().revision);
  const lease = 'How long this node may still count on its lease in etcd, 0 when it may not';
  gauge.one('tokenring_etcd_lease_seconds', lease, () => stats().leaseLeftMs / 1_000);
  const valid = 'Whether the policies in etcd are valid: 0 while those that were read before stay in force';
  const isValid = (): number => Number(stats().arePoliciesValid);
  gauge.one('tokenring_etcd_policies_valid', valid, isValid, 'min');
  const failed = 'What etcd did not answer, or not in time, by what was tried; watch: those that ended';
  counter.by('what', 'tokenring_etcd_failures_total', failed, () => Object.entries(stats().failures));
}
