import { differingLabels } from '../../internal/data/kubernetes/labels.js';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { provisionerContract } from '../contract/provisioner.js';
import { useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';

describe('ports of the resource domain on Kubernetes', () => {
  const suite = useCluster();

  provisionerContract('of Kubernetes', async () => {
    const provisioner = new KubernetesProvisioner(provisionerOptions(suite), new SilentLogger(), new Metrics());
    return {
      provisioner,
      exists: async (job) => {
        const workload = await suite.get(`/apis/apps/v1/namespaces/{namespace}/statefulsets/${job.name}`);
        return workload !== undefined && differingLabels(workload, job).length === 0;
      },
      close: () => provisioner.close(),
    };
  });
});
