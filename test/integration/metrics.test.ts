import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { projectRoot } from '../../internal/local/project.js';
import {
  type DocumentedMetric,
  documentedMetrics,
  type ExportedMetric,
  parseMetrics,
  seriesValue,
  writeDocumentedMetrics,
} from '../support/metrics-text.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const REFERENCE = join(projectRoot, 'docs/metrics.md');
const ADMIN = { 'x-user-role': 'ADMIN' };
/** Names a cluster that is never asked. */
const KUBECONFIG = {
  clusters: [{ name: 'none', cluster: { server: 'https://127.0.0.1:1' } }],
  users: [{ name: 'none', user: { token: 'none' } }],
  contexts: [{ name: 'none', context: { cluster: 'none', user: 'none' } }],
  'current-context': 'none',
};

describe('The metrics of product and resource', function () {
  this.timeout(400_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let resource: TestProcess;
  let item: string;

  before(async () => {
    const data = { rabbitmq: { queue: servers.queue('resource.instance.created') } };
    const config = { data, server: { workers: '2' } };
    product = await processes.start('product', { env: servers.env(), config, timeoutMs: 100_000 });
    resource = await processes.start('resource', {
      env: { ...servers.env(), ...product.env() },
      config: { data },
      timeoutMs: 100_000,
    });
    const spec = { cpu: 1, memory: 1, image: 'debian-12' };
    const { id: specId } = await call<{ id: string }>('/v1/product-specs', ADMIN, spec);
    const plan = { name: 'Plan', priceFen: '100', specId, status: 'ENABLED' };
    ({ id: item } = await call<{ id: string }>('/v1/products', ADMIN, plan));
    await call('/v1/sales', ADMIN, { itemId: item, name: 'Autumn', total: '2', priceFen: '50' });
    // Refused while the sale keeper opens it.
    await eventually('the sale is open', () => call(`/v1/sales/${item}/open`, ADMIN, {}));
  });

  async function call<T>(path: string, headers: Record<string, string>, body: unknown): Promise<T> {
    const reply = await fetch(`http://${product.http}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    const text = await reply.text();
    assert.ok(reply.ok, text);
    return JSON.parse(text) as T;
  }

  /** @returns the code of the reply */
  async function buy(userId: string): Promise<string> {
    const { code } = await eventually('a reply to the purchase', () =>
      call<{ code: string }>('/v1/seckill', { 'x-user-id': userId }, { itemId: item }),
    );
    return code;
  }

  async function metricsOf(process: TestProcess): Promise<string> {
    return (await fetch(`http://${process.metrics}/metrics`)).text();
  }

  /** Waits until the series of product has this value. */
  function untilShown(series: string, isRight: (value: number) => boolean): Promise<string> {
    let last: number | undefined;
    return eventually(`${series}`, async () => {
      const text = await metricsOf(product);
      last = seriesValue(text, series);
      return last !== undefined && isRight(last) && text;
    }).catch((cause) => {
      throw new Error(`${series} is ${last}`, { cause });
    });
  }

  async function addDeadLetter(): Promise<void> {
    const db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    try {
      await db.query(`INSERT INTO dead_letters (origin, message_id, payload, reason)
        VALUES ('stream:x', '1-1', '{}', 'bad')`);
    } finally {
      await db.end();
    }
  }

  it('show a purchase from the click to its instance', async () => {
    assert.equal(await buy('11111111-1111-4111-8111-111111111111'), 'QUEUED');
    const text = await untilShown('kaimai_click_to_instance_seconds_count', (count) => count === 1);
    assert.equal(seriesValue(text, 'kaimai_purchases_total{outcome="QUEUED"}'), 1);
    assert.equal(seriesValue(text, 'kaimai_purchases_total{outcome="FAILED"}'), 0);
    assert.equal(seriesValue(text, 'kaimai_order_transitions_total{to="PAID"}'), 1);
    assert.equal(seriesValue(text, 'kaimai_order_transitions_total{to="COMPLETED"}'), 1);
    assert.ok(seriesValue(text, 'kaimai_click_to_instance_seconds_bucket{le="60"}') === 1, 'it took at most a minute');
    assert.equal(seriesValue(await metricsOf(resource), 'kaimai_instance_attempts_total{outcome="created"}'), 1);
    const units = (kind: string) => `kaimai_sale_units{item_id="${item}",kind="${kind}"}`;
    const state = await untilShown(units('sold'), (sold) => sold === 1);
    assert.equal(seriesValue(state, units('total')), 2);
    assert.equal(seriesValue(state, units('left')), 1);
    assert.equal(seriesValue(state, `kaimai_sale_status{item_id="${item}",status="OPEN"}`), 1);
    assert.equal(seriesValue(state, 'kaimai_sales{status="OPEN"}'), 1);
  });

  it('do not add up over the workers what each of them sees', async () => {
    const text = await metricsOf(product);
    assert.equal(seriesValue(text, 'kaimai_workers_ready'), 2);
    assert.equal(seriesValue(text, 'kaimai_dependency_up{dependency="postgres"}'), 1);
    assert.equal(seriesValue(text, 'kaimai_seckill_streams'), 1);
    assert.equal(seriesValue(text, 'kaimai_worker_restarts_total'), 0);
  });

  it('count the entries that the consumer settled, and not the reads that found none', async () => {
    const text = await metricsOf(product);
    assert.equal(seriesValue(text, 'kaimai_background_units_total{server="seckill_consumer"}'), 1);
    assert.equal(seriesValue(text, 'kaimai_seckill_entries_total{outcome="ORDER"}'), 1);
    assert.equal(seriesValue(text, 'kaimai_seckill_entries_total{outcome="DEAD"}'), 0);
  });

  it('of product show a resource domain that hangs, and that it goes on', async () => {
    const frozen = 'kaimai_background_oldest_age_seconds{server="instance_resender"}';
    await untilShown(frozen, (age) => age === 0);
    await addDeadLetter();
    process.kill(resource.pid, 'SIGSTOP');
    try {
      assert.equal(await buy('22222222-2222-4222-8222-222222222222'), 'QUEUED');
      const text = await untilShown(frozen, (age) => age > 1);
      assert.equal(seriesValue(text, 'kaimai_background_backlog{server="instance_resender"}'), 1);
      assert.equal(seriesValue(text, 'kaimai_ready'), 1, 'product itself can take calls');
    } finally {
      process.kill(resource.pid, 'SIGCONT');
    }
    await untilShown('kaimai_click_to_instance_seconds_count', (count) => count === 2);
  });

  it('show the dead letters that wait for an operator, and the orders by status', async () => {
    const text = await untilShown('kaimai_dead_letters{domain="product"}', (letters) => letters === 1);
    assert.equal(seriesValue(text, 'kaimai_dead_letters{domain="resource"}'), 0);
    const orders = [...text.matchAll(/^kaimai_orders\{status="(\w+)"\} \d+$/gm)].map(([, status]) => status);
    assert.deepEqual(orders.sort(), ['CANCELLED', 'COMPLETED', 'PAID', 'PENDING', 'REFUNDING', 'SHIPPED']);
  });

  it(`are those of docs/metrics.md`, async () => {
    const exported = new Map<string, DocumentedMetric>();
    const add = (name: string, metrics: readonly ExportedMetric[]) => {
      for (const metric of metrics) {
        const known = exported.get(metric.name)?.processes.split(', ') ?? [];
        const processNames = [...new Set([...known, name])].join(', ');
        const labels = metric.labels ?? exported.get(metric.name)?.labels ?? [];
        exported.set(metric.name, { ...metric, labels, processes: processNames });
      }
    };
    const sampled = new Set<string>();
    // The provisioner of Kubernetes has metrics of its own, and asks for no cluster before the first instance.
    const folder = mkdtempSync(join(tmpdir(), 'kaimai-metrics-'));
    after(() => rmSync(folder, { recursive: true }));
    const kubernetes = { kubeconfig: join(folder, 'kubeconfig') };
    writeFileSync(kubernetes.kubeconfig, JSON.stringify(KUBECONFIG));
    const onKubernetes = await processes.start('resource', {
      env: { ...servers.env(), ...product.env() },
      config: { server: { roles: ['api'] }, resource: { provisioner: 'kubernetes', kubernetes } },
    });
    for (const [name, process] of [
      ['product', product],
      ['resource', resource],
      ['resource', onKubernetes],
    ] as const) {
      const metrics = parseMetrics(await metricsOf(process));
      for (const { name: metric, labels } of metrics) if (labels !== undefined) sampled.add(metric);
      add(name, metrics);
    }
    const sorted = [...exported.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
    const known = new Map(documentedMetrics(REFERENCE).map((metric) => [metric.name, metric]));
    // Without a series its labels cannot be seen.
    const rows = sorted.map((m) => (sampled.has(m.name) ? m : { ...m, labels: known.get(m.name)?.labels ?? [] }));
    if (process.env.UPDATE_METRICS_DOC) writeDocumentedMetrics(REFERENCE, rows);
    assert.deepEqual(
      documentedMetrics(REFERENCE),
      rows,
      'UPDATE_METRICS_DOC=1 make test T=integration/metrics writes it',
    );
  });
});
