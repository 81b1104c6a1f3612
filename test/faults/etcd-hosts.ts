import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { startEtcd, type EtcdCluster } from '../discovery/etcd-process.js';
import type { Host } from './network.js';

/** A real etcd whose members are on hosts of their own, each reached only from there and from those that are not cut off. */
export interface EtcdOnHosts {
  readonly members: EtcdCluster['members'];
  /** For the settings of a node. */
  readonly endpoints: string;
  /** Resolves once one of them leads. */
  elected(): Promise<void>;
  /** The member that leads. @throws Error while none does */
  leader(): number;
  close(): Promise<void>;
}

/** As `etcdctl` tells it. */
interface MemberStatus {
  readonly Endpoint: string;
  readonly Status: { readonly header: { readonly member_id: number }; readonly leader: number };
}

/** @param outside a host that reaches them all */
export async function startEtcdOn(hosts: readonly Host[], outside: Host): Promise<EtcdOnHosts> {
  const etcd = await startEtcd({
    size: hosts.length,
    host: (i) => hosts[i]!.address,
    within: (i) => hosts[i]!.prefix,
  });
  const endpoints = etcd.endpoints.join();

  function find(): number | undefined {
    const command = [...outside.prefix, 'etcdctl', '--endpoints', endpoints, 'endpoint', 'status', '-w', 'json'];
    const { stdout } = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8' });
    if (stdout === '') return undefined;
    // Ids are larger than a number holds: the two of one member are cut to the same.
    const said = JSON.parse(stdout) as readonly MemberStatus[];
    const leads = said.find(({ Status }) => Status.header.member_id === Status.leader);
    return leads && etcd.endpoints.indexOf(leads.Endpoint);
  }

  return {
    members: etcd.members,
    endpoints,
    async elected() {
      for (let tries = 0; find() === undefined; tries += 1) {
        if (tries > 100) throw new Error("none of etcd's members leads");
        await sleep(100);
      }
    },
    leader() {
      const member = find();
      if (member === undefined) throw new Error("none of etcd's members leads");
      return member;
    },
    close: () => etcd.close(),
  };
}
