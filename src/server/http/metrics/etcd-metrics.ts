import type { RegistryStats } from '../../../node/node-stats.js';
import type { MetricKinds } from './metric-kinds.js';

/** Adds the metrics of a node whose members and policies are in etcd. */
export function addEtcdMetrics({ counter, gauge }: MetricKinds, stats: () => RegistryStats): void {
  gauge.one('tokenring_etcd_revision', 'Revision of etcd that the ring is made from', () => stats().revision);
  const lease = 'Time left on the lease of this node in etcd; 0 after it expired';
  gauge.one('tokenring_etcd_lease_seconds', lease, () => stats().leaseLeftMs / 1_000);
  const valid = '1 if the policies in etcd are valid; 0 while the ones read before stay in force';
  const isValid = (): number => Number(stats().arePoliciesValid);
  gauge.one('tokenring_etcd_policies_valid', valid, isValid, 'min');
  const failed = 'Requests that etcd failed or did not answer in time, by kind; watch: watches that ended';
  counter.by('what', 'tokenring_etcd_failures_total', failed, () => Object.entries(stats().failures));
}
