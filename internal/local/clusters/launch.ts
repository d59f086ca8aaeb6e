import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Launch } from '../launch.js';
import { isRoot } from '../servers/account.js';
import { nextFreePort } from '../servers/ports.js';
import type { SpawnedProcess } from '../servers/process.js';
import type { RunningServer, ServerName } from '../servers/server.js';
import { startServer } from '../servers/servers.js';
import { PostgresClusterProcesses } from './postgres-cluster.js';
import { RabbitmqClusterProcesses } from './rabbitmq-cluster.js';
import { RedisClusterProcesses } from './redis-cluster.js';

/** What `kaimai up --cluster` starts. */
export const CLUSTERED_ENGINES = ['postgres', 'redis', 'rabbitmq', 'etcd'] as const satisfies ServerName[];

const POSTGRES_PORT = 5432;
const REDIS_PORT = 7000;
/** A node that is merely slow, on a machine with everything on it, is not replaced. */
const REDIS_NODE_TIMEOUT_MS = 2_000;

/**
 * Starts the engines of `kaimai up --cluster`: PostgreSQL with a synchronous standby, a Redis Cluster of three masters with a replica each, three
 * RabbitMQ nodes, and etcd. They begin empty. A node that is killed is not started again, so that its absence can be
 * observed.
 *
 * @param folder of `kaimai up` for the data of its servers
 */
export function startEngines(
  launch: Launch,
  folder: string,
  signal: AbortSignal,
): ReadonlyMap<ServerName, Promise<RunningServer>> {
  const root = join(folder, 'clusters');
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  // The accounts of the servers pass through it.
  if (isRoot) chmodSync(root, 0o755);
  return new Map<ServerName, Promise<RunningServer>>([
    ['postgres', startPostgres(launch, root)],
    ['redis', startRedis(launch, root)],
    ['rabbitmq', startRabbitmq(launch, root)],
    ['etcd', startEtcd(launch, root, signal)],
  ]);
}

async function startPostgres(launch: Launch, root: string): Promise<RunningServer> {
  const processes: SpawnedProcess[] = [];
  const cluster = await PostgresClusterProcesses.start({
    root,
    port: () => nextFreePort(POSTGRES_PORT),
    spawned: recorded(launch, processes),
  });
  return {
    name: 'postgres',
    url: cluster.url,
    extras: {},
    origin: 'a primary and its synchronous standby',
    processes,
    logFile: undefined,
    stop: () => cluster.stop(),
  };
}

async function startRedis(launch: Launch, root: string): Promise<RunningServer> {
  const processes: SpawnedProcess[] = [];
  const cluster = await RedisClusterProcesses.start({
    ...{ root, nodeTimeoutMs: REDIS_NODE_TIMEOUT_MS, appendfsync: 'always' },
    port: () => nextFreePort(REDIS_PORT),
    spawned: recorded(launch, processes),
  });
  return {
    name: 'redis',
    // Where tools begin to ask for the node of a key; the processes have the list.
    url: `redis://${cluster.addresses[0]}`,
    extras: { KAIMAI_DATA_REDIS_NODES: cluster.addresses.join(',') },
    origin: '3 masters with a replica each',
    processes,
    logFile: undefined,
    stop: () => cluster.stop(),
  };
}

async function startRabbitmq(launch: Launch, root: string): Promise<RunningServer> {
  const processes: SpawnedProcess[] = [];
  const cluster = await RabbitmqClusterProcesses.start({
    root,
    port: (standard = 5672) => nextFreePort(standard),
    spawned: recorded(launch, processes),
  });
  return {
    name: 'rabbitmq',
    url: cluster.url,
    extras: { KAIMAI_RABBITMQ_MANAGEMENT_URL: cluster.nodes[0]!.managementUrl },
    origin: `${cluster.nodes.length} nodes`,
    processes,
    logFile: undefined,
    stop: () => cluster.stop(),
  };
}

async function startEtcd(launch: Launch, root: string, signal: AbortSignal): Promise<RunningServer> {
  const options = { root, port: nextFreePort, signal, removeData: true };
  const { restart: _, ...server } = await startServer('etcd', { type: 'programs' }, options);
  for (const managed of server.processes) launch.addEngine(managed);
  const extras = {
    KAIMAI_REGISTRY_KIND: 'etcd',
    KAIMAI_REGISTRY_ENDPOINTS: server.url,
    KAIMAI_RESOURCE_PRODUCT_ADDR: 'discovery:///kaimai.product',
  };
  return { ...server, extras };
}

/** On record before it serves, so that the next launcher finds it if this one is killed. */
function recorded(launch: Launch, processes: SpawnedProcess[]): (child: SpawnedProcess) => void {
  return (child) => {
    processes.push(child);
    launch.addEngine(child);
  };
}
