import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { parseAllDocuments } from 'yaml';
import { RefundServiceService } from '../../gen/order/v1/refund.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import { KubernetesProvisioner } from '../../internal/data/kubernetes/provisioner.js';
import { InstancesCheck } from '../../internal/data/postgres/audit/instances.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { projectRoot } from '../../internal/local/project.js';
import { openPostgres } from '../support/instances.js';
import { useCluster } from '../support/kubernetes.js';
import { provisionerOptions } from '../support/kubernetes-provisioner.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const ORDERS = 20;
const BASE = join(projectRoot, 'deploy/kubernetes/base');
const ADMIN = { 'x-user-role': 'ADMIN', 'content-type': 'application/json' };
const WAIT = { timeoutMs: 150_000 };

interface InstanceJson {
  readonly instanceId: string;
  readonly name: string;
  readonly state: string;
  readonly address: string;
  readonly reason: string;
}

interface OrderJson {
  readonly id: string;
  readonly status: string;
  readonly closeReason: string;
}

describe('Orders whose instances run on Kubernetes', () => {
  const suite = useCluster();
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let db: pg.Client;
  let product: TestProcess;
  let resource: TestProcess;
  let itemId: string;
  let kubeconfig: string;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    const [role] = parseAllDocuments(readFileSync(join(BASE, 'resource-role.yaml'), 'utf8'));
    assert.ok(role);
    const { rules } = role.toJS() as { rules: readonly unknown[] };
    kubeconfig = await suite.serviceAccount('kaimai-resource', rules);
    const env = { ...servers.env() };
    const config = { order: { user_rate: { per_second: 0, burst: 1 } } };
    product = await processes.start('product', { env, config });
    const kubernetes = {
      ...{ kubeconfig, namespace: suite.namespace, template: join(BASE, 'instance-template.yaml') },
      ...{ images: ['*=registry.example/{image}'], ready_timeout: '150s', request_timeout: '2s' },
    };
    resource = await processes.start('resource', {
      env: { ...env, ...product.env() },
      config: {
        resource: {
          provisioner: 'kubernetes',
          kubernetes,
          concurrency: 100,
          reconcile_interval: '1s',
          orphan_grace: '1s',
        },
      },
    });
    const spec = await post('/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    itemId = (await post('/v1/products', { name: 'plan', priceFen: '1', specId: spec.id, status: 'ENABLED' })).id;
    await post('/v1/sales', { itemId, total: '1000', defaultLimit: 1_000 });
    await post(`/v1/sales/${itemId}/open`, {});
  });
  after(async () => {
    await db?.end();
  });

  async function post(path: string, body: unknown, headers: Record<string, string> = ADMIN): Promise<{ id: string }> {
    const reply = await fetch(`http://${product.http}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
    const text = await reply.text();
    assert.equal(reply.status, 200, text);
    return JSON.parse(text) as { id: string };
  }

  async function life(method: string, path: string, user: number): Promise<{ status: number; body: InstanceJson }> {
    const headers = { 'x-user-id': String(user) };
    const reply = await fetch(`http://${resource.http}${path}`, { method, headers });
    return { status: reply.status, body: (await reply.json()) as InstanceJson };
  }

  /** What a list shows to a user. */
  async function list<T>(url: string, user: number): Promise<T> {
    const reply = await fetch(url, { headers: { 'x-user-id': String(user) } });
    assert.equal(reply.status, 200, url);
    return (await reply.json()) as T;
  }

  /** Buys one instance for each of these users. */
  async function buy(from: number, count: number): Promise<void> {
    for (let user = from; user < from + count; user++) {
      const headers = { 'x-user-id': String(user), 'content-type': 'application/json' };
      await post('/v1/seckill', { itemId, requestId: `buyer-${user}` }, headers);
    }
  }

  const one = async (sql: string): Promise<number> => Number((await db.query<{ n: string }>(sql)).rows[0]?.n);
  const completed = () => one('SELECT count(*) AS n FROM orders WHERE status = 3');

  /** Fails with the reasons of those that are not. */
  async function allCompleted(count: number): Promise<void> {
    const open = `SELECT o.status AS "order", l.status, l.reason, l.attempts, l.report_error FROM orders o
      LEFT JOIN instance_logs l ON l.order_id = o.id WHERE o.status <> 3`;
    await eventually('every order is completed', async () => (await completed()) === count, WAIT).catch(
      async (cause: unknown) => {
        throw new Error(`not completed: ${JSON.stringify((await db.query(open)).rows)}`, { cause });
      },
    );
  }

  async function audited(): Promise<void> {
    const pool = openPostgres(servers.postgresUrl, 'kaimai_product');
    const provisioner = new KubernetesProvisioner(provisionerOptions(suite), new SilentLogger(), new Metrics());
    try {
      assert.deepEqual((await new InstancesCheck(pool, provisioner).check(10)).violations, []);
    } finally {
      await provisioner.close();
      await pool.close();
    }
  }

  for (const [title, kill] of [
    [
      'the resource process',
      async () => {
        await resource.kill();
        resource = await resource.again();
      },
    ],
    [
      'the API server',
      async () => {
        suite.cluster.kill('kube-apiserver');
        await suite.cluster.restart('kube-apiserver');
      },
    ],
    [
      'etcd',
      async () => {
        suite.cluster.kill('etcd');
        await suite.cluster.restart('etcd');
      },
    ],
  ] as const) {
    it(`each get one instance although ${title} is killed in the middle`, async () => {
      const before = await completed();
      const existing = (await suite.statefulSets()).length;
      await buy(before + 1, ORDERS);
      await eventually('some exist', async () => (await suite.statefulSets()).length > existing, { everyMs: 5 });
      await kill();
      await allCompleted(before + ORDERS);
      assert.equal((await suite.statefulSets()).length, before + ORDERS);
      assert.equal(await one("SELECT count(*) AS n FROM instance_logs WHERE status = 'SUCCESS'"), before + ORDERS);
      await audited();
    });
  }

  it('are listed for their owner, who deletes one for good', async () => {
    const { instances } = await list<{ instances: readonly InstanceJson[] }>(`http://${resource.http}/v1/instances`, 1);
    const [instance] = instances;
    assert.ok(instances.length === 1 && instance);
    assert.equal(instance.state, 'RUNNING');
    assert.match(instance.address, /^\d+\.\d+\.\d+\.\d+$/);
    const path = `/v1/instances/${instance.instanceId}`;
    assert.equal((await life('GET', path, 2)).status, 404);
    assert.equal((await life('DELETE', path, 2)).status, 404);
    assert.equal((await life('DELETE', path, 1)).body.state, 'REMOVING');
    await eventually('it is removed', async () => (await life('GET', path, 1)).body.state === 'REMOVED', WAIT);
    assert.ok(!(await suite.statefulSets()).includes(instance.name));
    assert.equal((await life('DELETE', path, 1)).body.state, 'REMOVED');
    await audited();
  });

  it('are refunded when an operator approves it, and their instance is removed', async () => {
    const user = { 'x-user-id': '2', 'content-type': 'application/json' };
    const { instances } = await list<{ instances: readonly InstanceJson[] }>(`http://${resource.http}/v1/instances`, 2);
    const [instance] = instances;
    assert.ok(instances.length === 1 && instance);
    const [order] = (await list<{ orders: readonly OrderJson[] }>(`http://${product.http}/v1/orders`, 2)).orders;
    assert.equal(order?.status, 'COMPLETED');
    const refund = await post(`/v1/orders/${order.id}/refunds`, { reason: 'too slow' }, user);
    assert.equal((await life('GET', `/v1/instances/${instance.instanceId}`, 2)).body.state, 'RUNNING');
    await post(`/v1/refunds/${refund.id}/approve`, {});
    const removed = await eventually(
      'it is removed',
      async () => {
        const { body } = await life('GET', `/v1/instances/${instance.instanceId}`, 2);
        return body.state === 'REMOVED' && body;
      },
      WAIT,
    );
    assert.equal(removed.reason, `refund ${refund.id}`);
    assert.ok(!(await suite.statefulSets()).includes(instance.name));
    await eventually('its pod is gone', async () => !(await suite.pods()).includes(`${instance.name}-0`), WAIT);
    // The money of a prepaid sale goes back outside Kaimai.
    const client = new GrpcClient({
      ...{ addr: product.grpc, reasons: ALL_REASONS, timeoutMs: 30_000 },
      metadata: { 'x-internal-token': DEVELOPMENT_TOKEN },
    });
    await client.call(RefundServiceService.completeRefund, { id: BigInt(refund.id) }).finally(() => client.close());
    const [cancelled] = (await list<{ orders: readonly OrderJson[] }>(`http://${product.http}/v1/orders`, 2)).orders;
    assert.deepEqual([cancelled?.status, cancelled?.closeReason], ['CANCELLED', 'REFUNDED']);
    await audited();
  });

  it('lose an instance that another client deletes, one that is down is shown, and orphans are removed', async () => {
    const { rows } = await db.query<{ instance_id: string; name: string }>(
      `SELECT instance_id, name FROM instance_logs WHERE user_id IN
        ('00000000-0000-8000-8000-000000000003', '00000000-0000-8000-8000-000000000004') ORDER BY user_id`,
    );
    const [lost, down] = rows as [(typeof rows)[0], (typeof rows)[0]];
    const sets = `/apis/apps/v1/namespaces/${suite.namespace}/statefulsets`;
    // An instance that no record knows, and an object of another program.
    const copy = await suite.get(`${sets}/${down.name}`);
    const orphan = {
      metadata: {
        name: 'inst-77',
        labels: { ...copy.metadata.labels, 'kaimai.dev/instance-id': '77' },
        annotations: copy.metadata.annotations,
      },
      spec: { ...copy.spec, replicas: 0 },
    };
    await suite.cluster.request('POST', sets, orphan);
    await suite.cluster.request('POST', sets, {
      ...orphan,
      metadata: { name: 'inst-78', labels: { 'kaimai.dev/instance-id': '78' } },
    });
    await suite.cluster.request('DELETE', `${sets}/${lost.name}`);
    await suite.cluster.request(
      'PATCH',
      `${sets}/${down.name}`,
      { spec: { replicas: 0 } },
      'application/merge-patch+json',
    );
    const stateOf = async (id: string, user: number) => (await life('GET', `/v1/instances/${id}`, user)).body;
    await eventually('it is lost', async () => (await stateOf(lost.instance_id, 3)).state === 'LOST', WAIT);
    await eventually('it is down', async () => (await stateOf(down.instance_id, 4)).state === 'DOWN', WAIT);
    await eventually('the orphan is gone', async () => !(await suite.statefulSets()).includes('inst-77'), WAIT);
    assert.ok((await suite.statefulSets()).includes('inst-78'), 'an object without the labels of Kaimai was touched');
    await suite.cluster.request(
      'PATCH',
      `${sets}/${down.name}`,
      { spec: { replicas: 1 } },
      'application/merge-patch+json',
    );
    await eventually('it runs again', async () => (await stateOf(down.instance_id, 4)).state === 'RUNNING', WAIT);
  });

  it('wait while the credentials are refused, and go on with new ones', async () => {
    const valid = readFileSync(kubeconfig, 'utf8');
    const before = await completed();
    let bought = 0;
    writeFileSync(kubeconfig, valid.replace(/"token": "[^"]+"/, '"token": "revoked"'));
    const refused = async () => {
      await buy(10_000 + bought++, 1);
      return resource.log().includes('Unauthorized');
    };
    await eventually('a creation is refused', refused, { ...WAIT, everyMs: 500 });
    writeFileSync(kubeconfig, valid);
    await eventually('every order is completed', async () => (await completed()) === before + bought, WAIT);
  });
});
