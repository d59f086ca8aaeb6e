import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SilentLogger } from '../../kratos/log/logger.js';
import { Metrics } from '../../kratos/metrics/metrics.js';
import { ClusterAccess } from './cluster-access.js';
import { KubernetesApi } from './kubernetes-api.js';
import { PodWatch } from './pod-watch.js';

interface Pod {
  readonly id: number;
  readonly uid?: string;
  readonly version?: number;
  readonly ready?: boolean;
  readonly deleted?: boolean;
}

/** An API server whose answers the test gives one by one; of lists and watches of pods only. */
describe('The watch of the pods', () => {
  let server: Server;
  let folder: string;
  let api: KubernetesApi;
  let watch: PodWatch;
  let changes: string[];
  /** Queries of the lists and watches, in the order in which they came, without an answer so far. */
  let asked: { readonly query: URLSearchParams; readonly reply: ServerResponse }[];

  beforeEach(async () => {
    asked = [];
    changes = [];
    server = createServer((req, reply) => {
      asked.push({ query: new URL(req.url ?? '', 'http://server').searchParams, reply });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    folder = mkdtempSync(join(tmpdir(), 'kaimai-pod-watch-'));
    const kubeconfig = join(folder, 'kubeconfig');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    writeFileSync(
      kubeconfig,
      JSON.stringify({
        ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'c' },
        clusters: [{ name: 'c', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
        users: [{ name: 'c', user: {} }],
        contexts: [{ name: 'c', context: { cluster: 'c', user: 'c' } }],
      }),
    );
    const options = { requestTimeoutMs: 60_000, retryBudgetMs: 60_000, requests: { perSecond: 0, burst: 1 } };
    api = new KubernetesApi(new ClusterAccess(kubeconfig), options, new Metrics());
    watch = new PodWatch(api, 'instances', new SilentLogger(), new Metrics(), (name) => changes.push(name));
  });
  afterEach(async () => {
    await Promise.all([watch.close(), api.close()]);
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true });
  });

  const json = ({ id, uid = `u${id}`, version = 1, ready = true, deleted = false }: Pod) => ({
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: {
      ...{
        name: `inst-${id}-0`,
        uid,
        resourceVersion: String(version),
        labels: { 'kaimai.dev/instance-id': String(id) },
      },
      ...(deleted && { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    },
    status: {
      phase: 'Running',
      podIP: `10.0.0.${id}`,
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }],
    },
  });

  /** The next request. */
  async function request(): Promise<{ readonly query: URLSearchParams; readonly reply: ServerResponse }> {
    while (asked.length === 0) await sleep(1);
    return asked.shift()!;
  }
  async function answerList(version: number, pods: readonly Pod[], next = ''): Promise<URLSearchParams> {
    const { query, reply } = await request();
    assert.equal(query.get('watch'), null);
    reply.setHeader('content-type', 'application/json');
    const metadata = { resourceVersion: String(version), ...(next && { continue: next }) };
    reply.end(JSON.stringify({ apiVersion: 'v1', kind: 'PodList', metadata, items: pods.map(json) }));
    return query;
  }
  /** The next watch, which sends these events. */
  async function answerWatch(...events: readonly (readonly [string, object])[]): Promise<{
    readonly query: URLSearchParams;
    readonly reply: ServerResponse;
  }> {
    const { query, reply } = await request();
    assert.equal(query.get('watch'), 'true');
    reply.write(events.map(([type, object]) => `${JSON.stringify({ type, object })}\n`).join(''));
    return { query, reply };
  }
  async function until(condition: () => boolean): Promise<void> {
    while (!condition()) await sleep(1);
  }
  const bookmark = (version: number) =>
    ['BOOKMARK', { kind: 'Pod', metadata: { resourceVersion: String(version) } }] as const;

  it('lists all pages first, and begins at the version of the last one', async () => {
    const started = watch.start();
    assert.equal((await answerList(7, [{ id: 1 }], 'more')).get('continue'), null);
    assert.equal((await answerList(7, [{ id: 2, ready: false }])).get('continue'), 'more');
    await started;
    assert.deepEqual(
      [watch.get('inst-1')?.ready, watch.get('inst-2')?.ready, watch.get('inst-3')],
      [true, false, undefined],
    );
    const { query } = await answerWatch();
    assert.deepEqual([query.get('resourceVersion'), query.get('allowWatchBookmarks')], ['7', 'true']);
    assert.match(query.get('labelSelector') ?? '', /app.kubernetes.io\/managed-by=kaimai/);
  });

  it('continues a watch that ends behind its last event or bookmark, without another list', async () => {
    void watch.start();
    await answerList(7, []);
    const first = await answerWatch(['ADDED', json({ id: 1, version: 9 })]);
    first.reply.end();
    const second = await answerWatch(['ADDED', json({ id: 2, version: 20 })], bookmark(50));
    assert.equal(second.query.get('resourceVersion'), '9');
    await until(() => watch.get('inst-2') !== undefined);
    second.reply.destroy();
    const { query } = await answerWatch();
    assert.equal(query.get('resourceVersion'), '50');
    assert.ok(watch.get('inst-1')?.ready);
  });

  it('lists again when its version has expired, however it learns that, and forgets the pods that are gone', async () => {
    void watch.start();
    await answerList(7, [{ id: 1 }, { id: 2 }]);
    const refused = await request();
    refused.reply.statusCode = 410;
    refused.reply.end('{}');
    await answerList(20, [{ id: 2, version: 20 }]);
    await until(() => watch.get('inst-1') === undefined);
    const ended = await answerWatch(['ERROR', { kind: 'Status', code: 410, message: 'too old resource version' }]);
    ended.reply.end();
    await answerList(30, []);
    await until(() => watch.get('inst-2') === undefined);
    assert.deepEqual(changes, ['inst-1', 'inst-2', 'inst-1', 'inst-2']);
  });

  it('tells of a pod that dies and of its successor, but not of the end of its predecessor', async () => {
    void watch.start();
    await answerList(7, [{ id: 1, uid: 'old' }]);
    await until(() => watch.get('inst-1') !== undefined);
    const seen: (string | undefined)[] = [];
    const stop = watch.listen('inst-1', (pod) => seen.push(pod && `${pod.uid} ${pod.ready} ${pod.reason}`));
    const { reply } = await answerWatch(
      ['MODIFIED', json({ id: 1, uid: 'old', version: 8, deleted: true })],
      ['ADDED', json({ id: 1, uid: 'new', version: 9 })],
      ['MODIFIED', json({ id: 1, uid: 'old', version: 10, deleted: true })],
      ['DELETED', json({ id: 1, uid: 'old', version: 11, deleted: true })],
      ['DELETED', json({ id: 1, uid: 'new', version: 12, deleted: true })],
    );
    await until(() => watch.get('inst-1') === undefined);
    stop();
    reply.write(`${JSON.stringify({ type: 'ADDED', object: json({ id: 1, uid: 'third', version: 13 }) })}\n`);
    await until(() => watch.get('inst-1') !== undefined);
    assert.deepEqual([...new Set(seen)], ['old true ', 'old false its pod is being deleted', 'new true ', undefined]);
  });

  it('ends with those who wait for its first list', async () => {
    const started = watch.start();
    await request();
    void watch.close();
    await assert.rejects(started, /the watch is closed/);
  });
});
