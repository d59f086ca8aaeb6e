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
  this.timeout(120_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const runFolder = mkdtempSync(join(tmpdir(), 'kaimai-up-'));

  /** In a process group of its own, as a shell starts it. */
  function launch(): Launcher {
    const child = spawn(process.execPath, [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'up'], {
      env: { ...process.env, ...servers.env(), KAIMAI_RUN_DIR: runFolder },
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
    return { pid: child.pid, output: () => output, exit };
  }

  async function open(): Promise<Launcher> {
    const launcher = launch();
    const ended = { yes: false };
    void launcher.exit.then(() => {
      ended.yes = true;
    });
    await eventually(
      'Kaimai is open',
      () => {
        if (ended.yes) return true;
        return launcher.output().includes('Ctrl-C stops all of it');
      },
      { timeoutMs: 60_000 },
    );
    assert.ok(!ended.yes, launcher.output());
    return launcher;
  }

  function record(): { launcher: ProcessId; services: ManagedProcess[] } {
    return JSON.parse(readFileSync(join(runFolder, 'up.json'), 'utf8'));
  }

  after(async () => {
    if (existsSync(join(runFolder, 'up.json'))) await Promise.all(record().services.map(stopProcess));
    rmSync(runFolder, { recursive: true, force: true });
  });

  it('opens with something to buy, and closes at Ctrl-C', async () => {
    const launcher = await open();
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

  it('loads demo data once, and stops the rest when something it runs ends', async () => {
    const launcher = await open();
    const client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    const { rows } = await client.query(
      'SELECT (SELECT count(*)::int FROM products) AS products, (SELECT count(*)::int FROM orders) AS orders',
    );
    await client.end();
    assert.deepEqual(rows, [{ products: 3, orders: 1 }]);

    const { services } = record();
    const [victim] = services;
    assert.ok(victim);
    process.kill(victim.pid, 'SIGKILL');
    assert.equal(await launcher.exit, 1);
    assert.match(launcher.output(), new RegExp(`${victim.name} has ended by itself\\. The end of its log`));
    assert.ok(services.every((service) => !isAlive(service)));
  });

  it('goes on after its launcher was killed', async () => {
    const killed = await open();
    const left = record().services;
    process.kill(killed.pid, 'SIGKILL');
    await killed.exit;
    assert.ok(left.every(isAlive));

    const launcher = await open();
    assert.ok(left.every((service) => !isAlive(service)));
    process.kill(launcher.pid, 'SIGTERM');
    assert.equal(await launcher.exit, 0, launcher.output());
  });
});
