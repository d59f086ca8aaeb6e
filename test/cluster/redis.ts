/** Redis clusters for one suite. */
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClusterOptions } from '../../internal/local/clusters/redis-cluster.js';
import { RedisClusterProcesses } from '../../internal/local/clusters/redis-cluster.js';
import { RedisSentinelProcesses } from '../../internal/local/clusters/redis-sentinels.js';
import { isRoot, isTraversable } from '../../internal/local/servers/account.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { redis } from '../../internal/local/servers/redis.js';
import { missingProgram } from './missing.js';

/** A folder that the accounts of the servers can pass through. */
export function clusterRoot(name: string): string {
  const root = mkdtempSync(join(isRoot && !isTraversable(tmpdir()) ? '/var/tmp' : tmpdir(), `kaimai-${name}-`));
  chmodSync(root, 0o711);
  return root;
}

interface Started {
  stop(): Promise<void>;
}

/** Starts a cluster before the suite's tests, or skips them where its program is missing, and stops it after them. */
function useCluster<T extends Started>(name: string, start: (root: string) => Promise<T>): () => T {
  let root: string;
  let cluster: T | undefined;
  before(`a ${name}`, async function () {
    if (redis.find() === undefined) missingProgram(this, 'redis-server');
    root = clusterRoot('redis');
    cluster = await start(root);
  });
  after(async () => {
    await cluster?.stop();
    if (root) rmSync(root, { recursive: true, force: true });
  });
  return () => cluster!;
}

export function useRedisCluster(options: Partial<ClusterOptions> = {}): () => RedisClusterProcesses {
  return useCluster('Redis cluster', (root) => RedisClusterProcesses.start({ root, port: freePort, ...options }));
}

export function useRedisSentinels(lines: readonly string[] = []): () => RedisSentinelProcesses {
  return useCluster('Redis with Sentinels', (root) => RedisSentinelProcesses.start({ root, port: freePort, lines }));
}
