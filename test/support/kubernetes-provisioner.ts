import type { KubernetesOptions } from '../../internal/data/kubernetes/provisioner.js';
import type { SuiteCluster } from './kubernetes.js';

/** Options of a provisioner whose instances are in the namespace of the suite. */
export function provisionerOptions(suite: SuiteCluster, changes: Partial<KubernetesOptions> = {}): KubernetesOptions {
  return {
    ...{ kubeconfig: suite.kubeconfig, namespace: suite.namespace, namespacePerUser: false, template: '' },
    images: [
      'broken=kaimai.invalid/no-such-image',
      'endless=kaimai.invalid/never-ready',
      'ubuntu-22.04=registry.example/ubuntu:22.04',
    ],
    ...{ readyTimeoutMs: 30_000, requestTimeoutMs: 5_000, retryBudgetMs: 5_000 },
    requests: { perSecond: 0, burst: 1 },
    ...changes,
  };
}
