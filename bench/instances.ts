/** Instances on a real API server, whose nodes kwok plays: from the purchase to COMPLETED, and what it asks of the API server. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LocalCluster } from '../internal/local/kubernetes/cluster.js';
import { findPrograms, missingPrograms } from '../internal/local/kubernetes/programs.js';
import { freePort } from '../internal/local/servers/ports.js';
import { seriesValue } from '../test/support/metrics-text.js';
import type { Bench } from './bench.js';
import { ID } from './goals.js';

const NAMESPACE = 'bench';
const TIMEOUT_MS = 900_000;
const POLL_MS = 200;

interface Completed {
  readonly n: number;
  readonly seconds: number;
  readonly p99: number;
}

/** From the first purchase to the last completion, and the 99th percentile of a purchase's own time. */
const COMPLETED = `SELECT count(*)::int AS n, coalesce(extract(epoch FROM max(e.at) - min(o.created_at)), 0)::float8 AS seconds,
    coalesce(percentile_disc(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM e.at - o.created_at)), 0)::float8 AS p99
  FROM orders o JOIN order_events e ON e.order_id = o.id AND e.to_status = 3`;

export async function measureInstances({ stage, plan, figures, onLine }: Bench): Promise<void> {
  const ids = [ID.instanceRate, ID.instanceP99, ID.instanceRequests];
  if (!findPrograms()) {
    for (const id of ids) figures.skip(id, missingPrograms());
    return;
  }
  const folder = join(stage.folder, 'kubernetes');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const cluster = new LocalCluster({ folder, port: freePort, signal: new AbortController().signal, nodes: 3 });
  try {
    await cluster.start();
    await cluster.request('POST', '/api/v1/namespaces', { metadata: { name: NAMESPACE } });
    const space = await stage.space();
    const product = await stage.service('product', space, {});
    const kubernetes = {
      ...{ kubeconfig: cluster.kubeconfig, namespace: NAMESPACE, images: ['*=registry.example/{image}'] },
      requests: { per_second: 0, burst: 1 },
    };
    const resource = await stage.service(
      'resource',
      space,
      { resource: { provisioner: 'kubernetes', kubernetes, concurrency: plan.instances } },
      product.env(),
    );
    const { itemId } = await stage.openSale(product, plan.instances);
    for (let user = 1; user <= plan.instances; user++) await buy(product.http, itemId, user);
    let done: Completed | undefined;
    for (const giveUpAtMs = Date.now() + TIMEOUT_MS; Date.now() < giveUpAtMs; await sleep(POLL_MS)) {
      [done] = await stage.sql<Completed & Record<string, unknown>>(space.postgresUrl, COMPLETED);
      if (done?.n === plan.instances) break;
    }
    if (done?.n !== plan.instances) throw new Error(`${done?.n ?? 0} of ${plan.instances} instances were created`);
    const metrics = await (await fetch(`http://${resource.metrics}/metrics`)).text();
    const requests = seriesValue(metrics, 'kaimai_kubernetes_requests_total') ?? 0;
    figures.add(ID.instanceRate, done.n / done.seconds);
    figures.add(ID.instanceP99, done.p99);
    figures.add(ID.instanceRequests, requests / done.n);
    onLine(
      `${done.n} instances on Kubernetes: ${(done.n / done.seconds).toFixed(1)}/s, p99 ${done.p99.toFixed(1)} s, ${(requests / done.n).toFixed(2)} requests each`,
    );
    await product.stop();
    await resource.stop();
  } finally {
    await cluster.stop();
  }
}

async function buy(http: string, itemId: bigint, user: number): Promise<void> {
  const reply = await fetch(`http://${http}/v1/seckill`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-user-id': String(user) },
    body: JSON.stringify({ itemId: String(itemId), requestId: `bench-${user}` }),
  });
  if (!reply.ok) throw new Error(`a purchase failed: ${await reply.text()}`);
  await reply.body?.cancel().catch(() => {});
}
