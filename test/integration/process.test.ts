import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ProductServiceService } from '../../gen/product/v1/product.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import { DEVELOPMENT_TOKEN } from '../../internal/conf/defaults.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { freePort } from '../../internal/local/servers/ports.js';

const BARE = fileURLToPath(new URL('./testdata/bare-process.js', import.meta.url));
const GET = ProductServiceService.getProduct;

interface Line {
  readonly msg: string;
  readonly worker?: number;
  readonly pid?: number;
  readonly [key: string]: unknown;
}

describe('a process', () => {
  let dir: string;
  let child: ChildProcess;
  let lines: Line[];
  let stderr: string;
  let changed: () => void;
  let ports: { readonly http: number; readonly grpc: number; readonly ops: number };

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'kaimai-process-'));
    ports = { http: await freePort(), grpc: await freePort(), ops: await freePort() };
  });
  afterEach(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
    rmSync(dir, { recursive: true });
  });

  function run(server: Record<string, unknown>, env: Record<string, string> = {}): void {
    lines = [];
    stderr = '';
    changed = () => undefined;
    const config = {
      server: {
        http: { addr: `127.0.0.1:${ports.http}` },
        grpc: { addr: `127.0.0.1:${ports.grpc}` },
        metrics_addr: `127.0.0.1:${ports.ops}`,
        stop_timeout: '5s',
        ...server,
      },
      data: { database: { source: 'postgres://x' }, redis: { addr: 'x' }, rabbitmq: { url: 'amqp://x' } },
    };
    const file = join(dir, 'bare.yaml');
    writeFileSync(file, JSON.stringify(config));
    child = spawn(process.execPath, [BARE, '-conf', file], { env: { ...process.env, ...env }, stdio: 'pipe' });
    let rest = '';
    child.stdout?.on('data', (data: Buffer) => {
      const parts = (rest + data.toString()).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) lines.push(JSON.parse(part) as Line);
      changed();
    });
    child.stderr?.on('data', (data: Buffer) => {
      stderr += data.toString();
    });
    child.on('close', () => changed());
  }

  /** Waits until `find` finds an entry in the log of the process. */
  async function logged<T>(find: () => T | undefined | false): Promise<T> {
    for (;;) {
      const found = find();
      if (found) return found;
      if (child.exitCode !== null) throw new Error(`the process ended: ${JSON.stringify(lines)} ${stderr}`);
      await new Promise<void>((resolve) => {
        changed = resolve;
      });
    }
  }

  const serving = (app: string) => logged(() => lines.find((l) => l.msg === 'serving' && l.app === app));

  async function ended(): Promise<number | null> {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
    return child.exitCode;
  }

  it('lists every violation of its configuration and exits with 1', async () => {
    run({ workers: 'few', drain_delay: 'long' });
    assert.equal(await ended(), 1);
    assert.match(stderr, /server\.workers: /);
    assert.match(stderr, /server\.drain_delay: /);
  });

  it('rejects an unknown role and unknown arguments', async () => {
    run({ roles: ['api', 'barista'] });
    assert.equal(await ended(), 1);
    assert.match(stderr, /server\.roles: bare has no role "barista", only api, shared, single/);
  });

  it('serves only what its roles include', async () => {
    run({ roles: ['shared'] });
    const line = await serving('bare');
    assert.deepEqual(line.servers, ['ops', 'config watcher', 'health', 'shared', 'cpu meter']);
    assert.equal((await fetch(`http://127.0.0.1:${ports.ops}/readyz`)).status, 200);
    await assert.rejects(fetch(`http://127.0.0.1:${ports.http}/healthz`));
    child.kill('SIGTERM');
    assert.equal(await ended(), 0);
  });

  it('applies a changed log level while it runs', async () => {
    run({});
    await serving('bare');
    const health = () => fetch(`http://127.0.0.1:${ports.http}/v1/products/1`);
    const file = join(dir, 'bare.yaml');
    const config = JSON.parse(readFileSync(file, 'utf8')) as object;
    writeFileSync(file, JSON.stringify({ ...config, log: { level: 'debug' } }));
    await logged(() => lines.find((l) => l.msg === 'configuration changed'));
    await health();
    await logged(() => lines.find((l) => l.msg === 'call served'));
    writeFileSync(file, JSON.stringify({ ...config, log: { level: 'loud' } }));
    await logged(() => lines.find((l) => l.msg === 'invalid configuration; the previous one stays in force'));
    assert.equal((await health()).status, 200);
    child.kill('SIGTERM');
    assert.equal(await ended(), 0);
  });

  it('reports a port that is in use', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(ports.grpc, '127.0.0.1', resolve));
    run({});
    assert.equal(await ended(), 1);
    assert.ok(lines.some((l) => JSON.stringify(l).includes(`grpc cannot listen on 127.0.0.1:${ports.grpc}`)));
    await new Promise((resolve) => taken.close(resolve));
  });

  it('shares its sockets among workers, adds up their metrics, and restarts a worker that died', async () => {
    run({ workers: 2 });
    await serving('bare-primary');
    const roles = lines.filter((l) => l.msg.startsWith('background')).map((l) => l.msg);
    assert.deepEqual(roles.sort(), [
      'background shared in 0 of 2',
      'background shared in 1 of 2',
      'background single in 0 of 2',
    ]);

    const seen = new Set<string>();
    while (seen.size < 2) {
      const res = await fetch(`http://127.0.0.1:${ports.http}/v1/products/1`, { headers: { connection: 'close' } });
      seen.add(((await res.json()) as { name: string }).name);
    }
    const metrics = await (await fetch(`http://127.0.0.1:${ports.ops}/metrics`)).text();
    const counted = [...metrics.matchAll(/^kaimai_server_handled_total\{.*GetProduct.*\} (\d+)$/gm)];
    assert.ok(counted.reduce((sum, m) => sum + Number(m[1]), 0) >= 2, metrics);

    const victim = await logged(() => lines.find((l) => l.msg === 'serving' && l.worker === 1));
    process.kill(victim.pid as number, 'SIGKILL');
    const next = await logged(() => lines.find((l) => l.msg === 'serving' && l.worker === 1 && l.pid !== victim.pid));
    assert.ok(lines.some((l) => l.msg === 'worker died'));
    assert.notEqual(next.pid, victim.pid);
    const after = await (await fetch(`http://127.0.0.1:${ports.ops}/metrics`)).text();
    assert.match(after, /^kaimai_worker_restarts_total 1$/m);
    child.kill('SIGTERM');
    assert.equal(await ended(), 0);
  });

  it('gives up on a worker that dies before it has served', async () => {
    run({ workers: 2 }, { BARE_FAILS: 'wire' });
    assert.equal(await ended(), 1);
    assert.ok(lines.some((l) => JSON.stringify(l).includes('died before it served')));
  });

  it('ends its workers when its primary is killed', async () => {
    run({ workers: 2 });
    await serving('bare-primary');
    // Its output ends when the last process closes it, and the workers hold it too.
    const closed = once(child, 'close');
    child.kill('SIGKILL');
    await closed;
    await assert.rejects(fetch(`http://127.0.0.1:${ports.http}/healthz`));
  });

  for (const workers of [1, 2]) {
    it(`loses no request to a SIGTERM under load, with ${workers} worker(s)`, async () => {
      // Long enough for the clients to notice on a busy machine: one that calls later finds the port closed.
      run({ workers, drain_delay: '2s' });
      await serving(workers === 1 ? 'bare' : 'bare-primary');
      let stop = false;
      let sent = 0;
      const failures: unknown[] = [];
      let draining = false;

      // Clients that stop calling when the health check fails, like behind a load balancer.
      const health = (async () => {
        while (!stop) {
          const ready = await fetch(`http://127.0.0.1:${ports.http}/readyz`, { headers: { connection: 'close' } }).then(
            (r) => r.status === 200,
            () => false,
          );
          if (!ready) {
            draining = true;
            stop = true;
          }
        }
      })();
      const clients: GrpcClient[] = [];
      const http = async () => {
        while (!stop) {
          sent++;
          await fetch(`http://127.0.0.1:${ports.http}/v1/products/${sent}`).then(
            async (r) => {
              if (r.status !== 200) failures.push(r.status);
              await r.text();
            },
            (err: unknown) => failures.push(err),
          );
        }
      };
      const grpc = async () => {
        const client = new GrpcClient({
          addr: `127.0.0.1:${ports.grpc}`,
          metadata: { 'x-internal-token': DEVELOPMENT_TOKEN },
          reasons: ALL_REASONS,
          timeoutMs: 5_000,
        });
        clients.push(client);
        while (!stop) {
          sent++;
          await client.call(GET, { id: BigInt(sent) }).catch((err: unknown) => failures.push(err));
        }
      };
      const load = [...Array.from({ length: 8 }, http), ...Array.from({ length: 8 }, grpc)];
      while (sent < 500) await new Promise((resolve) => setImmediate(resolve));
      child.kill('SIGTERM');
      await Promise.all([health, ...load]);
      for (const client of clients) client.close();
      assert.ok(draining);
      assert.deepEqual(failures.slice(0, 3), []);
      assert.equal(await ended(), 0);
    });
  }
});
