import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Launch } from '../launch.js';
import { runFolder } from '../project.js';
import { nextFreePort } from '../servers/ports.js';
import { LocalCluster } from './cluster.js';

/** Namespace of the instances, and of `kubectl` in shells that read .run/env. */
export const NAMESPACE = 'kaimai-instances';
const NODES = 3;
/** Instances that may wait for their pods; one that waits costs little. */
const CONCURRENCY = 500;

export interface ClusterEnvironment {
  readonly url: string;
  readonly kubectl: string;
  /** By which the resource process and tools use the cluster. */
  readonly variables: Readonly<Record<string, string>>;
}

/** Starts a cluster for `kaimai up`. It begins empty, and the instances of the database that it lacks become LOST. */
export async function startCluster(launch: Launch, signal: AbortSignal): Promise<ClusterEnvironment> {
  const folder = join(runFolder, 'kubernetes');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const cluster = new LocalCluster({
    ...{ folder, port: nextFreePort, signal, nodes: NODES },
    spawned: (child) => launch.setService(child),
  });
  await cluster.start();
  await cluster.request('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
  const kubectlConfig = join(folder, 'kubectl.kubeconfig');
  writeFileSync(kubectlConfig, JSON.stringify(cluster.config(NAMESPACE)), { mode: 0o600 });
  const variables = {
    KAIMAI_RESOURCE_PROVISIONER: 'kubernetes',
    KAIMAI_RESOURCE_CONCURRENCY: String(CONCURRENCY),
    KAIMAI_RESOURCE_KUBERNETES_KUBECONFIG: cluster.kubeconfig,
    KAIMAI_RESOURCE_KUBERNETES_NAMESPACE: NAMESPACE,
    // The demo shows an instance that fails with the image `broken`.
    KAIMAI_RESOURCE_KUBERNETES_IMAGES: 'broken=kaimai.invalid/no-such-image,*=registry.example/{image}',
    KUBECONFIG: kubectlConfig,
  };
  return { url: cluster.url, kubectl: cluster.kubectl, variables };
}
