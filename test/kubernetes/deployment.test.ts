import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments, stringify } from 'yaml';
import { projectRoot } from '../../internal/local/project.js';
import { useCluster } from '../support/kubernetes.js';
import { eventually } from '../support/wait.js';

const FOLDER = join(projectRoot, 'deploy/kubernetes');
/** Of the Prometheus operator, without their schemas. */
const MONITORING = ['ServiceMonitor', 'PrometheusRule'];

describe('deploy/kubernetes on a real API server', () => {
  const suite = useCluster();

  async function kubectl(...args: string[]): Promise<string> {
    const env = { ...process.env, KUBECONFIG: suite.kubeconfig };
    return (await promisify(execFile)(suite.cluster.kubectl, args, { env })).stdout;
  }

  after(async () => {
    for (const name of ['kaimai', 'kaimai-instances'])
      await suite.cluster.request('DELETE', `/api/v1/namespaces/${name}`);
  });

  it('is accepted with strict validation, and its pods become ready under the restricted standard', async () => {
    const output = await kubectl('apply', '--validate=strict', '-k', FOLDER);
    for (const expected of [
      'job.batch/migrate created',
      'deployment.apps/product-api created',
      'deployment.apps/product-background created',
      'deployment.apps/resource created',
      'poddisruptionbudget.policy/product-api created',
      'horizontalpodautoscaler.autoscaling/product-api created',
      'networkpolicy.networking.k8s.io/default-deny created',
      'role.rbac.authorization.k8s.io/kaimai-resource created',
    ]) {
      assert.ok(output.includes(expected), `${expected} is not in:\n${output}`);
    }
    await kubectl('apply', '--validate=strict', '-f', join(FOLDER, 'base/secrets.example.yaml'));
    const ready = async (name: string) => {
      const path = `/apis/apps/v1/namespaces/kaimai/deployments/${name}`;
      return (await suite.get(path)).status.readyReplicas;
    };
    await eventually(
      'the deployments are ready',
      async () =>
        (await ready('product-api')) === 3 &&
        (await ready('product-background')) === 2 &&
        (await ready('resource')) === 2,
    );
  });

  it('is applied a second time without a change', async () => {
    const output = await kubectl('apply', '--validate=strict', '-k', FOLDER);
    const changed = output.split('\n').filter((line) => line !== '' && !line.endsWith(' unchanged'));
    // kubectl sends the selector of a PodDisruptionBudget each time, whether it differs or not.
    const rest = changed.filter((line) => !line.startsWith('poddisruptionbudget.policy/'));
    assert.deepEqual(rest, []);
    // It exits with 1 if anything differs.
    assert.equal(await kubectl('diff', '-k', FOLDER), '');
  });

  it('grants the whole cluster instead of the namespace if each user has a namespace', async () => {
    const folder = mkdtempSync(suite.file('deployment-'));
    cpSync(FOLDER, folder, { recursive: true });
    appendFileSync(join(folder, 'kustomization.yaml'), 'components: [namespace-per-user]\n');
    const objects = parseAllDocuments(await kubectl('kustomize', folder)).map((document) => document.toJS());
    const ofRole = objects.filter(({ apiVersion }) => apiVersion === 'rbac.authorization.k8s.io/v1');
    assert.deepEqual(ofRole.map(({ kind }) => kind).sort(), ['ClusterRole', 'ClusterRoleBinding']);
    const settings = objects.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'kaimai-resource');
    assert.equal(settings.data.KAIMAI_RESOURCE_KUBERNETES_NAMESPACE_PER_USER, 'true');
    const file = suite.file('per-user.yaml');
    writeFileSync(file, ofRole.map((object) => stringify(object)).join('---\n'));
    assert.match(await kubectl('apply', '--validate=strict', '--dry-run=server', '-f', file), /clusterrole.+created/);
  });

  it('has a clustered form that the API server accepts with strict validation', async () => {
    const output = await kubectl('apply', '--validate=strict', '--dry-run=server', '-k', join(FOLDER, 'clustered'));
    assert.match(output, /horizontalpodautoscaler.autoscaling\/product-background (created|configured)/);
  });

  it('has monitors, rules and a dashboard for the Prometheus operator', async () => {
    for (const kind of MONITORING) {
      const plural = `${kind.toLowerCase()}s`;
      const schema = { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } };
      await suite.cluster.request('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        apiVersion: 'apiextensions.k8s.io/v1',
        kind: 'CustomResourceDefinition',
        metadata: { name: `${plural}.monitoring.coreos.com` },
        spec: {
          ...{ group: 'monitoring.coreos.com', scope: 'Namespaced', names: { kind, plural } },
          versions: [{ name: 'v1', served: true, storage: true, schema }],
        },
      });
      const served = () => suite.get(`/apis/monitoring.coreos.com/v1/namespaces/kaimai/${plural}`);
      await eventually(`${kind} is served`, served);
    }
    const output = await kubectl('apply', '-k', join(FOLDER, 'monitoring'));
    const again = await kubectl('apply', '-k', join(FOLDER, 'monitoring'));
    assert.doesNotMatch(again, /configured|created/);
    assert.match(output, /configmap\/kaimai-dashboard created/);
    assert.match(output, /prometheusrule.monitoring.coreos.com\/kaimai created/);
    assert.equal(output.match(/servicemonitor.monitoring.coreos.com\/kaimai-\w+ created/g)?.length, 2);
  });
});
