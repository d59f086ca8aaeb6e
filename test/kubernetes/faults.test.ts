import assert from 'node:assert/strict';
import type { ProvisionOutcome } from '../../internal/biz/instance/instance-job.js';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { freshId } from '../contract/backend.js';
import { ApiServerProxy, type Injection, type ProxiedRequest } from '../support/api-server-proxy.js';
import { claimedJob } from '../support/instances.js';
import { useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';
import { eventually } from '../support/wait.js';

const OVERLOADED = { status: 503, message: 'the API server is overloaded' };
const NOT_YET = { status: 500, message: 'etcdserver: request timed out' };

describe('An API server that misbehaves', () => {
  const suite = useCluster();
  const { signal } = new AbortController();
  let proxy: ApiServerProxy;
  let provisioner: KubernetesProvisioner;

  beforeEach(async () => {
    proxy = await ApiServerProxy.open(suite);
    provisioner = new KubernetesProvisioner(
      provisionerOptions(suite, { kubeconfig: proxy.kubeconfig, requestTimeoutMs: 2_000, retryBudgetMs: 3_000 }),
      new SilentLogger(),
      new Metrics(),
    );
  });
  afterEach(async () => {
    await provisioner.close();
    await proxy.close();
  });

  /** Injects into the first `times` creations. */
  function spoilCreations(injection: Injection, times = 1): void {
    proxy.inject = ({ method }) => (method === 'POST' && times-- > 0 ? injection : undefined);
  }
  const creations = () => proxy.count('POST', '/statefulsets');
  const reads = () => proxy.count('GET', '/statefulsets/');

  /** Creates an instance. Whatever the outcome is, there is at most one. */
  async function create(): Promise<ProvisionOutcome> {
    const job = claimedJob(freshId());
    const outcome = await provisioner.create(job, signal);
    const exists = (await suite.statefulSets()).includes(job.name);
    if (outcome.kind === 'running') assert.ok(exists, 'it is reported as running, and does not exist');
    return outcome;
  }

  it('takes one request for an instance, beside the list and the watch that all share', async () => {
    for (let i = 0; i < 5; i++) assert.equal((await create()).kind, 'running');
    assert.deepEqual([creations(), reads(), proxy.count('GET', '/pods?')], [5, 0, 1]);
    assert.equal(proxy.requests.filter(({ isWatch }) => isWatch).length, 1);
  });

  it('is read before another try, whether it fails, cuts the answer, halves it or is too slow', async () => {
    for (const [injection, expectedCreations] of [
      [NOT_YET, 2],
      [OVERLOADED, 2],
      [{ status: 409, message: 'object is being modified' }, 2],
      [{ reply: 'cut' }, 1],
      [{ reply: 'half' }, 1],
      [{ reply: 'late', afterMs: 3_000 }, 1],
    ] as const) {
      const [createdBefore, readBefore] = [creations(), reads()];
      spoilCreations(injection);
      assert.equal((await create()).kind, 'running', JSON.stringify(injection));
      const counted = [creations() - createdBefore, reads() - readBefore];
      assert.deepEqual(counted, [expectedCreations, 1], JSON.stringify(injection));
    }
  });

  it('is asked again after the time that it names when it throttles', async () => {
    spoilCreations({ status: 429, message: 'too many requests', headers: { 'retry-after': '1' } });
    const startedMs = performance.now();
    assert.equal((await create()).kind, 'running');
    assert.ok(performance.now() - startedMs >= 1_000);
    assert.deepEqual([creations(), reads()], [2, 0]);
  });

  it('fails an instance for good only if it rejects that instance', async () => {
    for (const [status, message, kind] of [
      [422, 'StatefulSet.apps "inst-1" is invalid: spec: Required value', 'failed'],
      [403, 'statefulsets.apps "inst-1" is forbidden: exceeded quota: instances', 'failed'],
      [400, 'admission webhook "images" denied the request: not signed', 'failed'],
      [403, 'User "kaimai" cannot create resource "statefulsets"', 'unavailable'],
      [401, 'Unauthorized', 'unavailable'],
      [404, 'namespaces "instances" not found', 'unavailable'],
    ] as const) {
      spoilCreations({ status, message });
      const outcome = await create();
      assert.equal(outcome.kind, kind, `${status} ${message}`);
      assert.ok('reason' in outcome && outcome.reason.includes(message));
    }
  });

  it('costs an attempt if it fails this instance only, and none if it fails everything', async () => {
    spoilCreations(NOT_YET, 1_000);
    assert.equal((await create()).kind, 'retry');
    proxy.inject = ({ isWatch }) => (isWatch ? undefined : OVERLOADED);
    assert.equal((await create()).kind, 'unavailable');
  });

  it('does not keep an instance from being removed', async () => {
    const job = claimedJob(freshId());
    assert.equal((await provisioner.create(job, signal)).kind, 'running');
    let faults = 0;
    proxy.inject = ({ method }) => {
      if (method === 'GET' && faults++ === 0) return OVERLOADED;
      return method === 'DELETE' && faults++ < 3 ? { reply: 'cut' } : undefined;
    };
    await provisioner.remove(job);
    assert.ok(!(await suite.statefulSets()).includes(job.name));
  });

  it('breaks watches, lets their version expire, and every instance is noticed all the same', async () => {
    const watches: ProxiedRequest[] = [];
    const isRefused = () => watches.length % 3 === 1;
    proxy.inject = (request) => {
      if (!request.isWatch) return undefined;
      watches.push(request);
      return isRefused() ? { status: 410, message: 'too old resource version' } : undefined;
    };
    for (let i = 0; i < 4; i++) {
      const creation = create();
      proxy.cutWatches();
      assert.equal((await creation).kind, 'running');
    }
    await eventually('it is listed again', () => proxy.count('GET', '/pods?') > 1);
  });
});
