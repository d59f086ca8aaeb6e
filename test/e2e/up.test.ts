import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { projectRoot } from '../../internal/local/project.js';
import { parseRunEnv } from '../../internal/local/run-env.js';
import { isAlive, type ManagedProcess, type ProcessId, stopProcess } from '../../internal/local/servers/process.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

interface Launcher {
  pid: number;
  output(): string;
  exit: Promise<number | null>;
}

describe('kaimai up', function () {
  this.timeout(400_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const runFolder = mkdtempSync(join(tmpdir(), 'kaimai-up-'));

  const running = new Set<Launcher>();

  /** In its own process group, like a job of a shell. */
  function launch(env: NodeJS.ProcessEnv = servers.env(), args: readonly string[] = []): Launcher {
    const child = spawn(process.execPath, [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'up', ...args], {
      env: { ...process.env, ...env, KAIMAI_RUN_DIR: runFolder },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => {
        output += chunk;
      });
    }
    const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
    assert.ok(child.pid);
    const launcher = { pid: child.pid, output: () => output, exit };
    running.add(launcher);
    void exit.then(() => running.delete(launcher));
    return launcher;
  }

  async function run(env?: NodeJS.ProcessEnv, args?: readonly string[]): Promise<Launcher> {
    const launcher = launch(env, args);
    const ended = { yes: false };
    void launcher.exit.then(() => {
      ended.yes = true;
    });
    await eventually(
      'Kaimai is running',
      () => {
        if (ended.yes) return true;
        return launcher.output().includes('Ctrl-C stops everything');
      },
      { timeoutMs: 150_000 },
    );
    assert.ok(!ended.yes, launcher.output());
    return launcher;
  }

  function record(): { launcher: ProcessId; services: ManagedProcess[] } {
    return JSON.parse(readFileSync(join(runFolder, 'up.json'), 'utf8'));
  }

  function services(): { product: ManagedProcess; resource: ManagedProcess } {
    const [product, resource] = ['product', 'resource'].map((name) =>
      record().services.find((service) => service.name === name),
    );
    assert.ok(product && resource);
    return { product, resource };
  }

  after(async () => {
    // Of a test that failed.
    for (const { pid, exit } of running) {
      process.kill(pid, 'SIGTERM');
      await exit;
    }
    if (existsSync(join(runFolder, 'up.json'))) await Promise.all(record().services.map(stopProcess));
    rmSync(runFolder, { recursive: true, force: true });
  });

  it('starts with demo data, runs once per project and stops at Ctrl-C', async () => {
    const launcher = await run();
    const env = parseRunEnv(readFileSync(join(runFolder, 'env'), 'utf8'));
    assert.equal(env.KAIMAI_POSTGRES_URL, servers.postgresUrl);
    const reply = await fetch(`http://${env.KAIMAI_PRODUCT_HTTP}/v1/products`);
    const { products } = (await reply.json()) as { products: { id: string }[] };
    assert.deepEqual(products.map(({ id }) => id).sort(), ['1001', '1002', '1003']);
    const resource = await fetch(`http://${env.KAIMAI_RESOURCE_METRICS}/readyz`);
    assert.equal(resource.status, 200);
    await resource.body?.cancel();

    const second = launch();
    assert.equal(await second.exit, 1);
    assert.match(second.output(), /already runs here \(pid \d+\)/);

    const { services } = record();
    assert.equal(services.length, 2);
    process.kill(-launcher.pid, 'SIGINT');
    assert.equal(await launcher.exit, 0, launcher.output());
    assert.ok(services.every((service) => !isAlive(service)));
    assert.ok(!existsSync(join(runFolder, 'env')));
  });

  it('loads demo data once, and restarts a service that was killed at the same address', async () => {
    const launcher = await run();
    const client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    const { rows } = await client.query(
      'SELECT (SELECT count(*)::int FROM products) AS products, (SELECT count(*)::int FROM orders) AS orders',
    );
    await client.end();
    assert.deepEqual(rows, [{ products: 3, orders: 1 }]);

    const { product: killed, resource } = services();
    process.kill(killed.pid, 'SIGKILL');
    await eventually('product runs again', () => /product restarted in/.test(launcher.output()));
    assert.match(
      launcher.output(),
      /product ended by SIGKILL\. The end of its log .*\n(.*\n)*Restarting product in 0\.5 s/,
    );
    const env = parseRunEnv(readFileSync(join(runFolder, 'env'), 'utf8'));
    const reply = await fetch(`http://${env.KAIMAI_PRODUCT_METRICS}/readyz`);
    await reply.body?.cancel();
    assert.equal(reply.status, 200);
    const after = services();
    assert.notEqual(after.product.pid, killed.pid);
    assert.equal(after.resource.pid, resource.pid);
    assert.ok(isAlive(resource));

    process.kill(launcher.pid, 'SIGTERM');
    assert.equal(await launcher.exit, 0, launcher.output());
    assert.ok(!isAlive(after.product) && !isAlive(after.resource));
  });

  it('stops the services that a killed launcher left, and starts them again', async () => {
    const killed = await run();
    const left = record().services;
    process.kill(killed.pid, 'SIGKILL');
    await killed.exit;
    assert.ok(left.every(isAlive));

    const launcher = await run();
    assert.ok(left.every((service) => !isAlive(service)));
    process.kill(launcher.pid, 'SIGTERM');
    assert.equal(await launcher.exit, 0, launcher.output());
  });

  it('keeps the servers that it started, and their data, when product is killed', async () => {
    const none = { KAIMAI_POSTGRES_URL: '', KAIMAI_REDIS_URL: '', KAIMAI_RABBITMQ_URL: '' };
    const launcher = await run(none, ['--servers', 'programs']);
    const folder = /data in (\S+)\/postgres/.exec(launcher.output())?.[1];
    assert.ok(folder, launcher.output());
    const serverProcesses = () =>
      ['postgres', 'redis', 'rabbitmq'].flatMap(
        (name) =>
          (JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as { processes: ManagedProcess[] }).processes,
      );
    const before = serverProcesses();
    assert.ok(before.length >= 3);
    process.kill(services().product.pid, 'SIGKILL');
    await eventually('product runs again', () => /product restarted in/.test(launcher.output()));
    assert.deepEqual(
      serverProcesses().map(({ pid }) => pid),
      before.map(({ pid }) => pid),
    );
    assert.ok(before.every(isAlive));
    const env = parseRunEnv(readFileSync(join(runFolder, 'env'), 'utf8'));
    const reply = await fetch(`http://${env.KAIMAI_PRODUCT_HTTP}/v1/products`);
    const { products } = (await reply.json()) as { products: unknown[] };
    assert.equal(products.length, 3);
    process.kill(launcher.pid, 'SIGTERM');
    assert.equal(await launcher.exit, 0, launcher.output());
    assert.ok(!before.some(isAlive));
  });
});
