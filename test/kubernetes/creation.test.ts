import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { freshId } from '../contract/backend.js';
import { claimedJob } from '../support/instances.js';
import { type KubernetesJson, useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';
import { eventually } from '../support/wait.js';

const TEMPLATE = `
apiVersion: apps/v1
kind: StatefulSet
spec:
  template:
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      imagePullSecrets: [{name: registry}]
      containers:
        - name: instance
          ports: [{name: ssh, containerPort: 22}]
          securityContext: {allowPrivilegeEscalation: true}
---
apiVersion: v1
kind: Service
spec:
  ports: [{name: ssh, port: 22}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
spec:
  policyTypes: [Ingress]
  ingress: [{ports: [{port: 22}]}]
`;

describe('An instance on Kubernetes', () => {
  const suite = useCluster();
  const { signal } = new AbortController();
  const open: KubernetesProvisioner[] = [];

  function provisioner(changes: Parameters<typeof provisionerOptions>[1] = {}): KubernetesProvisioner {
    const made = new KubernetesProvisioner(provisionerOptions(suite, changes), new SilentLogger(), new Metrics());
    open.push(made);
    return made;
  }
  const workload = (name: string) =>
    suite.get<KubernetesJson>(`/apis/apps/v1/namespaces/{namespace}/statefulsets/${name}`);

  afterEach(async () => {
    for (const made of open.splice(0)) await made.close();
  });

  it('has the labels, the size and the restricted security context, and its address is that of its pod', async () => {
    const job = claimedJob(freshId(), { source: 'SECKILL', sourceId: '1-0' });
    const gpu = { ...job, size: { cpus: 2, memoryMb: 2048, gpu: 1, image: 'ubuntu-22.04' } };
    const outcome = await provisioner().create(gpu, signal);
    assert.ok(outcome.kind === 'running', JSON.stringify(outcome));
    const found = await workload(job.name);
    assert.equal(found.metadata.labels['kaimai.dev/instance-id'], String(job.instanceId));
    assert.equal(found.metadata.labels['kaimai.dev/source-id'], '1-0');
    assert.equal(found.metadata.labels['kaimai.dev/order-id'], String(job.orderId));
    const pod = await suite.get(`/api/v1/namespaces/{namespace}/pods/${job.name}-0`);
    assert.equal(pod.status.podIP, outcome.address);
    assert.deepEqual([pod.spec.securityContext.runAsNonRoot, pod.spec.automountServiceAccountToken], [true, false]);
    assert.deepEqual(pod.spec.securityContext.seccompProfile, { type: 'RuntimeDefault' });
    const [container] = pod.spec.containers;
    const size = { cpu: '2', memory: '2Gi', 'nvidia.com/gpu': '1' };
    assert.deepEqual([container.resources.requests, container.resources.limits], [size, size]);
    assert.equal(container.image, 'registry.example/ubuntu:22.04');
    assert.deepEqual(container.securityContext, { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } });
  });

  it('has what the template adds, which cannot weaken its security, and all of it goes with it', async () => {
    const template = suite.file('template.yaml');
    writeFileSync(template, TEMPLATE);
    const job = claimedJob(freshId());
    const made = provisioner({ template });
    assert.equal((await made.create(job, signal)).kind, 'running');
    assert.equal((await made.create(job, signal)).kind, 'running', 'it exists already');
    const { spec } = (await workload(job.name)).spec.template;
    assert.deepEqual(spec.nodeSelector, { 'kubernetes.io/os': 'linux' });
    assert.deepEqual([spec.imagePullSecrets, spec.containers[0].ports[0].containerPort], [[{ name: 'registry' }], 22]);
    assert.equal(spec.containers[0].securityContext.allowPrivilegeEscalation, false);
    const service = await suite.get(`/api/v1/namespaces/{namespace}/services/${job.name}`);
    assert.deepEqual(service.spec.selector, { 'kaimai.dev/instance-id': String(job.instanceId) });
    const policies = () => suite.names('apis/networking.k8s.io/v1', 'networkpolicies');
    assert.deepEqual(await policies(), [job.name]);
    await made.remove(job);
    await eventually('all of it is gone', async () => {
      const left = [...(await suite.statefulSets()), ...(await suite.pods()), ...(await policies())];
      return !left.some((name) => name.startsWith(job.name));
    });
  });

  it('fails for good with the reason, and is removed', async () => {
    const made = provisioner({ readyTimeoutMs: 5_000 });
    const outcomeOf = (image: string, cpus = 1) =>
      made.create(claimedJob(freshId(), { size: { cpus, memoryMb: 1024, gpu: 0, image } }), signal);
    const reasons = await Promise.all([
      outcomeOf('no-such-name'),
      outcomeOf('broken'),
      outcomeOf('endless'),
      outcomeOf('ubuntu-22.04', 1_000_000),
    ]);
    const expected = [
      /^the image no-such-name is unknown$/,
      /^ImagePullBackOff: the image cannot be pulled$/,
      /^not ready within 5 s: its pod is Pending$/,
      /^not ready within 5 s: Unschedulable: .*Insufficient cpu/,
    ];
    for (const [i, outcome] of reasons.entries()) {
      assert.ok(outcome.kind === 'failed', JSON.stringify(outcome));
      assert.match(outcome.reason, expected[i]!);
    }
  });

  it('fails for good if the API server will never accept its spec', async () => {
    const template = suite.file('invalid.yaml');
    writeFileSync(template, TEMPLATE.replace('containerPort: 22', 'containerPort: 700000'));
    const outcome = await provisioner({ template }).create(claimedJob(freshId()), signal);
    assert.ok(outcome.kind === 'failed', JSON.stringify(outcome));
    assert.match(outcome.reason, /^422 .*must be between 1 and 65535/);
  });

  it('waits no longer when the process stops, and leaves the instance to the next worker', async () => {
    const stopping = new AbortController();
    const job = claimedJob(freshId(), { size: { cpus: 1, memoryMb: 1024, gpu: 0, image: 'endless' } });
    const made = provisioner();
    const creation = made.create(job, stopping.signal);
    await eventually('it exists', () => workload(job.name));
    stopping.abort();
    assert.deepEqual(await creation, { kind: 'unavailable', reason: 'the process stops' });
    await made.remove(job);
  });

  it('never touches an object without the labels of Kaimai', async () => {
    const job = claimedJob(freshId());
    const labels = { app: 'foreign' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'a', image: 'a' }] } };
    const path = `/apis/apps/v1/namespaces/${suite.namespace}/statefulsets`;
    const foreign = { selector: { matchLabels: labels }, serviceName: '', replicas: 0, template };
    await suite.cluster.request('POST', path, { metadata: { name: job.name }, spec: foreign });
    const made = provisioner();
    const outcome = await made.create(job, signal);
    assert.ok(outcome.kind === 'failed');
    assert.match(outcome.reason, new RegExp(`^the name ${job.name} is taken by another StatefulSet`));
    await made.remove(job);
    assert.ok(!(await made.list()).some(({ name }) => name === job.name));
    assert.equal((await workload(job.name)).spec.replicas, 0);
  });

  it('is in the namespace of its user if the configuration says so', async () => {
    const made = provisioner({ namespacePerUser: true });
    const job = claimedJob(freshId());
    const namespace = `${suite.namespace}-${job.userId}`;
    assert.equal((await made.create(job, signal)).kind, 'running');
    assert.deepEqual(await suite.names('apis/apps/v1', 'statefulsets', namespace), [job.name]);
    assert.ok((await made.list()).some(({ name }) => name === job.name));
    await made.remove(job);
    assert.deepEqual(await suite.names('apis/apps/v1', 'statefulsets', namespace), []);
    await suite.cluster.request('DELETE', `/api/v1/namespaces/${namespace}`);
  });

  it('fails for good when a quota is used up', async () => {
    const quota = { metadata: { name: 'pods' }, spec: { hard: { pods: '0' } } };
    await suite.cluster.request('POST', `/api/v1/namespaces/${suite.namespace}/resourcequotas`, quota);
    await eventually('the quota counts', async () => {
      const found = await suite.get('/api/v1/namespaces/{namespace}/resourcequotas/pods');
      return found.status.hard !== undefined;
    });
    const outcome = await provisioner().create(claimedJob(freshId()), signal);
    assert.ok(outcome.kind === 'failed', JSON.stringify(outcome));
    assert.match(outcome.reason, /exceeded quota: pods/);
  });
});
