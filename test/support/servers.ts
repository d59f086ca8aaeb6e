/**
 * Real servers for a suite.
 *
 *     describe('order repository', () => {
 *       const servers = useServers('postgres', 'rabbitmq');
 *       it('…', async () => {
 *         const pool = new pg.Pool({ connectionString: servers.postgresUrl });
 *         …
 *         await pool.end();
 *       });
 *     });
 *
 * Each suite that calls `useServers` gets, before its first test:
 *   postgres  a fresh database with the newest schema (cloned from a template that is migrated once per run)
 *   redis     an empty database of its own (`redis://…/<n>`), so that keys have their public names
 *   rabbitmq  a fresh virtual host; or, where a server was given that has no management API, unique queue names:
 *             always name queues by `servers.queue('resource.instance.created')`
 *   etcd      a key prefix (`servers.etcdPrefix`)
 * and it is removed after its last test. A suite that leaves a connection open fails.
 *
 * `servers.env()` has the environment variables by which configs/*.yaml find these. The servers start on first use,
 * once
 * per mocha run; importing this file is all that is needed. For a free port: `freePort` of
 * internal/local/servers/ports.ts.
 */
import { randomBytes } from 'node:crypto';
import type { ServerName } from '../../internal/local/servers/server.js';
import { type Lease, leaseEtcd, leasePostgres, leaseRabbitmq, leaseRedis } from './leases.js';
import { START_TIMEOUT_MS } from './shared-servers.js';

export class SuiteServers {
  private readonly leases = new Map<ServerName, Lease>();

  get postgresUrl(): string {
    return this.lease('postgres').url;
  }
  get redisUrl(): string {
    return this.lease('redis').url;
  }
  get rabbitmqUrl(): string {
    return this.lease('rabbitmq').url;
  }
  /** URL of the management API with credentials; undefined if a given server has none. */
  get rabbitmqManagementUrl(): string | undefined {
    return this.lease('rabbitmq').managementUrl;
  }
  /** The virtual host of this suite. */
  get rabbitmqVhost(): string {
    return decodeURIComponent(new URL(this.rabbitmqUrl).pathname.slice(1)) || '/';
  }
  get etcdUrl(): string {
    return this.lease('etcd').url;
  }
  get etcdPrefix(): string {
    return this.lease('etcd').prefix ?? '';
  }

  /** The name of a queue for this suite: unchanged in a virtual host of its own, otherwise made unique. */
  queue(name: string): string {
    const { prefix, queues } = this.lease('rabbitmq');
    if (prefix === undefined) return name;
    queues?.add(`${prefix}${name}`);
    return `${prefix}${name}`;
  }

  /** The environment variables with which a process uses these servers. */
  env(): Record<string, string> {
    const variables: Record<ServerName, string> = {
      postgres: 'KAIMAI_POSTGRES_URL',
      redis: 'KAIMAI_REDIS_URL',
      rabbitmq: 'KAIMAI_RABBITMQ_URL',
      etcd: 'KAIMAI_ETCD_URL',
    };
    return Object.fromEntries([...this.leases].map(([name, lease]) => [variables[name], lease.url]));
  }

  /** @internal */
  add(name: ServerName, lease: Lease): void {
    this.leases.set(name, lease);
  }

  /** Returns all leases. Throws afterwards if connections were left open. @internal */
  async release(): Promise<void> {
    const leases = [...this.leases.values()];
    this.leases.clear();
    const leaks = (await Promise.all(leases.map((lease) => lease.findLeaks()))).flat();
    await Promise.all(leases.map((lease) => lease.drop()));
    if (leaks.length > 0) throw new Error(`the suite left connections open:\n  ${leaks.join('\n  ')}`);
  }

  private lease(name: ServerName): Lease {
    const lease = this.leases.get(name);
    if (!lease) throw new Error(`call useServers('${name}'), and read it inside a hook or a test`);
    return lease;
  }
}

const leaseBy = { postgres: leasePostgres, redis: leaseRedis, rabbitmq: leaseRabbitmq, etcd: leaseEtcd };

/** Registers the hooks of the enclosing suite. */
export function useServers(...names: ServerName[]): SuiteServers {
  const servers = new SuiteServers();
  before(`servers: ${names.join(', ')}`, async function () {
    this.timeout(START_TIMEOUT_MS);
    // Registered here, so that it runs after the suite's own hooks, which close their connections.
    this.test?.parent?.afterAll('give the servers back', async () => {
      await servers.release();
    });
    const suite = `kaimai_test_${randomBytes(5).toString('hex')}`;
    await Promise.all(names.map(async (name) => servers.add(name, await leaseBy[name](suite))));
  });
  return servers;
}
