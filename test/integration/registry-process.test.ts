import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProductServiceService } from '../../gen/product/v1/product.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { EtcdRegistry } from '../../internal/kratos/registry/etcd.js';
import { parseInstance, type ServiceInstance } from '../../internal/kratos/registry/service-registry.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const BARE = fileURLToPath(new URL('./testdata/bare-process.js', import.meta.url));
const GET = ProductServiceService.getProduct;
const NAME = 'kaimai.bare';
const CALLERS = 16;

describe('Processes that register in etcd', () => {
  const servers = useServers('etcd');
  let dir: string;
  let children: { readonly child: ChildProcess; readonly grpc: string }[];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-registry-'));
    children = [];
  });
  afterEach(async () => {
    for (const { child } of children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
    rmSync(dir, { recursive: true });
  });

  async function start(): Promise<{ readonly child: ChildProcess; readonly grpc: string }> {
    const grpc = `127.0.0.1:${await freePort()}`;
    const file = join(dir, `${children.length}.yaml`);
    const config = {
      server: { http: { addr: `127.0.0.1:${await freePort()}` }, grpc: { addr: grpc }, drain_delay: '3s' },
      data: { database: { source: 'postgres://x' }, redis: { addr: 'x' }, rabbitmq: { url: 'amqp://x' } },
      registry: { kind: 'etcd', endpoints: [servers.etcdUrl], prefix: servers.etcdPrefix, ttl: '2s' },
    };
    writeFileSync(file, JSON.stringify(config));
    const child = spawn(process.execPath, [BARE, '-conf', file], { stdio: 'ignore' });
    children.push({ child, grpc });
    return { child, grpc };
  }

  /** The addresses in etcd, read without the code under test. */
  async function listed(): Promise<ServiceInstance[]> {
    const base64 = (text: string) => Buffer.from(text).toString('base64');
    const prefix = `${servers.etcdPrefix}/${NAME}`;
    const reply = await fetch(`${servers.etcdUrl}/v3/kv/range`, {
      method: 'POST',
      body: JSON.stringify({ key: base64(`${prefix}/`), range_end: base64(`${prefix}0`) }),
    });
    const { kvs = [] } = (await reply.json()) as { kvs?: { value: string }[] };
    return kvs.map((kv) => parseInstance(Buffer.from(kv.value, 'base64').toString())).filter((i) => i !== undefined);
  }

  it('lose no call at SIGTERM, and lose their entries when they die', async () => {
    const [one, two] = [await start(), await start()];
    // Two processes start at once, which takes a while on a busy machine.
    const both = await eventually('two entries', async () => {
      const entries = await listed();
      return entries.length === 2 && entries;
    });
    for (const entry of both) {
      assert.equal(entry.name, NAME);
      assert.equal(entry.metadata.weight, '100');
      assert.match(entry.endpoints.join(' '), /^grpc:\/\/127\.0\.0\.1:\d+ http:\/\/127\.0\.0\.1:\d+$/);
    }

    const registry = new EtcdRegistry(
      { endpoints: [servers.etcdUrl], prefix: servers.etcdPrefix, ttlMs: 2_000 },
      new SilentLogger(),
    );
    const client = new GrpcClient({
      addr: `discovery:///${NAME}`,
      discovery: registry,
      metadata: { 'x-internal-token': DEVELOPMENT_TOKEN },
      reasons: ALL_REASONS,
      timeoutMs: 10_000,
    });
    let calls = 0;
    let answered = 0;
    let running = true;
    const failures: unknown[] = [];
    const callers = Array.from({ length: CALLERS }, async () => {
      while (running) {
        // Not idempotent, so that no retry hides a lost call.
        await client.call(GET, { id: BigInt(++calls) }).then(
          () => answered++,
          (err: unknown) => failures.push(err),
        );
      }
    });
    try {
      await eventually('load', () => answered > 500 || failures.length > 0);
      one.child.kill('SIGTERM');
      await eventually('one entry', async () => (await listed()).length === 1);
      // During the drain, clients that do not know yet still get replies.
      assert.equal(one.child.exitCode, null);
      assert.ok((await listed())[0]?.endpoints.includes(`grpc://${two.grpc}`));
      await eventually('its end', () => one.child.exitCode !== null);
      assert.equal(one.child.exitCode, 0);
      const before = answered;
      await eventually('more load', () => answered > before + 200 || failures.length > 0);
    } finally {
      running = false;
      await Promise.all(callers);
      client.close();
      await registry.close();
    }
    assert.deepEqual(failures, []);

    two.child.kill('SIGKILL');
    await eventually('no entry', async () => (await listed()).length === 0);
  });
});
