import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { projectRoot } from '../../internal/local/project.js';
import { freshId } from '../contract/backend.js';
import { claimedJob } from '../support/instances.js';
import { type PolicyRule, permissionsOf, useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';
import { eventually } from '../support/wait.js';

const FOLDER = join(projectRoot, 'deploy/kubernetes');

/** Compares the rules of the file with what the audit log of the API server says, after all that an instance can need. */
describe('What the resource process may do on Kubernetes', () => {
  const suite = useCluster();
  const { signal } = new AbortController();

  function rulesOf(file: string): readonly PolicyRule[] {
    const [role] = parseAllDocuments(readFileSync(join(FOLDER, file), 'utf8'));
    assert.ok(role);
    return (role.toJS() as { rules: readonly PolicyRule[] }).rules;
  }

  /** A creation, a repeated one, one that a quota forbids, a list and removals. */
  async function liveAll(kubeconfig: string, namespacePerUser: boolean): Promise<void> {
    const template = join(FOLDER, 'base/instance-template.yaml');
    const options = provisionerOptions(suite, { kubeconfig, namespacePerUser, template });
    const provisioner = new KubernetesProvisioner(options, new SilentLogger(), new Metrics());
    try {
      const job = claimedJob(freshId());
      const outcomes = [await provisioner.create(job, signal), await provisioner.create(job, signal)];
      assert.deepEqual(
        outcomes.map(({ kind }) => kind),
        ['running', 'running'],
        JSON.stringify(outcomes),
      );
      const namespace = namespacePerUser ? `${suite.namespace}-${job.userId}` : suite.namespace;
      const quotas = `/api/v1/namespaces/${namespace}/resourcequotas`;
      await suite.cluster.request('POST', quotas, { metadata: { name: 'pods' }, spec: { hard: { pods: '1' } } });
      await eventually('the quota counts', async () => (await suite.get(`${quotas}/pods`)).status.hard !== undefined);
      const second = claimedJob(freshId());
      assert.equal((await provisioner.create(second, signal)).kind, 'failed');
      await provisioner.remove(second);
      const listed = (await provisioner.list()).find(({ name }) => name === job.name);
      assert.ok(listed);
      await provisioner.removeListed(listed);
      await suite.cluster.request('DELETE', `${quotas}/pods`);
    } finally {
      await provisioner.close();
    }
  }

  async function permissionsUsed(account: string): Promise<readonly string[]> {
    const requests = suite.requestsOf(account);
    assert.deepEqual(
      requests.filter(({ status }) => status === 403),
      [],
      'it was forbidden',
    );
    return [...new Set(requests.map(({ rule }) => rule))].sort();
  }

  it('is exactly what it uses', async () => {
    const rules = rulesOf('base/resource-role.yaml');
    await liveAll(await suite.serviceAccount('resource', rules), false);
    assert.deepEqual(await permissionsUsed('resource'), permissionsOf(rules));
  });

  it('is exactly what it uses if each user has a namespace', async () => {
    const rules = rulesOf('namespace-per-user/cluster-role.yaml');
    await liveAll(await suite.serviceAccount('per-user', rules, 'ClusterRole'), true);
    assert.deepEqual(await permissionsUsed('per-user'), permissionsOf(rules));
    const { userId } = claimedJob(1n);
    await suite.cluster.request('DELETE', `/api/v1/namespaces/${suite.namespace}-${userId}`);
  });
});
