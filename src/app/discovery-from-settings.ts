import { type Log, systemClock } from '../lib/system.js';
import { DnsDiscovery } from '../membership/discovery/dns.js';
import { EtcdRegistry } from '../membership/discovery/etcd.js';
import { StaticDiscovery, type Discovery } from '../membership/discovery.js';
import type { Settings } from './settings/setting-table.js';

/** Finds the seeds that the settings name. With etcd there are none, as its registry lists the members. */
export function discoveryOf({ discovery, dnsName, peers }: Settings, log: Log): Discovery {
  if (discovery === 'etcd') return new StaticDiscovery([]);
  return dnsName === undefined ? new StaticDiscovery(peers) : new DnsDiscovery(dnsName, { clock: systemClock, log });
}

/** Creates the registry in etcd. Returns `undefined` when the settings do not use etcd. */
export function registryOf(settings: Settings): EtcdRegistry | undefined {
  if (settings.discovery !== 'etcd') return undefined;
  const { etcdEndpoints, etcdPrefix, etcdUser, etcdPassword, etcdTlsCert, etcdTlsKey, etcdTlsCa } = settings;
  const known = etcdUser !== undefined && etcdPassword !== undefined;
  return new EtcdRegistry({
    endpoints: etcdEndpoints,
    prefix: etcdPrefix,
    user: known ? { name: etcdUser, password: etcdPassword } : undefined,
    tls: { ca: etcdTlsCa, cert: etcdTlsCert, key: etcdTlsKey },
  });
}
