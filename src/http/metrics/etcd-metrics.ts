import type { RegistryMember } from '../../cluster/handover/registry-member.js';
import type { MetricKinds } from './metric-kinds.js';

/** What there is to watch of a node whose members, and policies, are in etcd. */
export function addEtcdMetrics(
  { counter, gauge }: MetricKinds,
  { session, membership }: Pick<RegistryMember, 'session' | 'membership'>,
): void {
  gauge.one('tokenring_etcd_revision', 'Revision of etcd that the ring is made from', () => membership.epoch);
  const lease = 'How long this node may still count on its lease in etcd, 0 when it may not';
  gauge.one('tokenring_etcd_lease_seconds', lease, () => session.leaseLeftMs / 1_000);
  const valid = 'Whether the policies in etcd are valid: 0 while those that were read before stay in force';
  const isValid = (): number => Number(session.policyStore.known?.stored.kind !== 'unreadable');
  gauge.one('tokenring_etcd_policies_valid', valid, isValid, 'min');
  const failed = 'What etcd did not answer, or not in time, by what was tried; watch: those that ended';
  counter.by('what', 'tokenring_etcd_failures_total', failed, () => Object.entries(session.failures));
}
