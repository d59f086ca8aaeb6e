import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { projectRoot } from '../../internal/local/project.js';
import { findProgram, versionsIn } from '../../internal/local/servers/binaries.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const DEBIAN = '/usr/lib/postgresql';
const ADMIN = { 'x-user-role': 'ADMIN' };
const run = promisify(execFile);

/** The commands of docs/runbook/backup-and-restore.md. */
describe('An older backup of PostgreSQL', function () {
  this.timeout(400_000);
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  const folder = mkdtempSync(join(tmpdir(), 'kaimai-restore-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  let product: TestProcess;
  let resource: TestProcess;
  let item: string;

  function tool(name: string): string | undefined {
    return findProgram(name) ?? versionsIn(DEBIAN).map((version) => join(DEBIAN, version, 'bin', name))[0];
  }

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

  /** One unit for each of these users. */
  async function buy(from: number, to: number): Promise<void> {
    for (let user = from; user <= to; user++) {
      await eventually(`the purchase of user ${user}`, async () => {
        const reply = await call<{ code: string }>('/v1/seckill', { 'x-user-id': String(user) }, { itemId: item });
        return reply.code === 'QUEUED' || assert.fail(reply.code);
      });
    }
  }

  async function audit(): Promise<{ code: number; out: string }> {
    const command = [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'audit'];
    return run(process.execPath, command, { env: { ...process.env, ...servers.env() } }).then(
      ({ stdout }) => ({ code: 0, out: stdout }),
      (err: { code: number; stdout: string; stderr: string }) => ({ code: err.code, out: err.stdout + err.stderr }),
    );
  }

  it('is restored under a new epoch, keeps the purchases that wait in Redis, and the audit counts those that are lost', async function () {
    const [dump, restore] = [tool('pg_dump'), tool('pg_restore')];
    // A server that is given by URL says nothing of programs on this machine.
    if (!dump || !restore) return this.skip();
    const db = new pg.Client({ connectionString: servers.postgresUrl });
    const redis = new Redis(servers.redisUrl);
    const number = async (sql: string) =>
      Number((await db.query<{ n: string }>(`SELECT (${sql})::text AS n`)).rows[0]?.n);
    const completed = (count: number) =>
      eventually(
        `${count} orders are complete`,
        async () => (await number('SELECT count(*) FROM orders WHERE status = 3')) === count,
      );
    try {
      await db.connect();
      const data = { rabbitmq: { queue: servers.queue('resource.instance.created') } };
      const options = { config: { data }, timeoutMs: 100_000 };
      product = await processes.start('product', { env: servers.env(), ...options });
      resource = await processes.start('resource', { env: { ...servers.env(), ...product.env() }, ...options });
      const spec = { cpu: 1, memory: 1, image: 'debian-12' };
      const { id: specId } = await call<{ id: string }>('/v1/product-specs', ADMIN, spec);
      const plan = { name: 'Plan', priceFen: '100', specId, status: 'ENABLED' };
      ({ id: item } = await call<{ id: string }>('/v1/products', ADMIN, plan));
      await call('/v1/sales', ADMIN, { itemId: item, name: 'Autumn', total: '10', priceFen: '50' });
      // Refused while the sale keeper opens it.
      await eventually('the sale is open', () => call(`/v1/sales/${item}/open`, ADMIN, {}));
      await buy(1, 2);
      await completed(2);

      const backup = join(folder, 'kaimai.dump');
      await run(dump, ['--format=custom', `--file=${backup}`, servers.postgresUrl]);

      // Redis loses the sale, which takes another epoch, and two more units are sold.
      const before = await number('SELECT epoch FROM sales');
      await redis.del(`seckill:${item}:meta`);
      await eventually('another epoch', async () => (await number('SELECT epoch FROM sales')) > before);
      await buy(3, 4);
      await completed(4);
      const lost = await number('SELECT epoch FROM sales');
      assert.equal(await resource.stop(), 'exited with code 0');
      assert.equal(await product.stop(), 'exited with code 0');
      // A purchase that no consumer has taken yet.
      await redis.xadd(`stream:seckill:${item}`, '*', 'uid', formatUserId('5'), 'ts', String(Date.now()));

      await run(restore, ['--clean', '--if-exists', '--single-transaction', `--dbname=${servers.postgresUrl}`, backup]);
      assert.equal(await number('SELECT epoch FROM sales'), before);
      const inRedis = Number(await redis.hget(`seckill:${item}:meta`, 'epoch'));
      assert.equal(inRedis, lost);
      await db.query(`SELECT setval('sale_epoch_seq', greatest($1, (SELECT last_value FROM sale_epoch_seq)) + 1)`, [
        inRedis,
      ]);

      product = await product.again();
      resource = await resource.again();
      await eventually(
        'the sale is loaded',
        async () => Number(await redis.hget(`seckill:${item}:meta`, 'epoch')) > lost,
      );
      // Users 1, 2 and 5 have a unit; 3 and 4 may buy again.
      await completed(3);
      await buy(3, 4);
      await completed(5);
      // What was sold since the backup is lost, and the audit says how much.
      assert.match((await audit()).out, new RegExp(`stream of item ${item}: 2 entries left it without an outcome`));
      const stream = `stream:seckill:${item}`;
      const facts = (await redis.xinfo('STREAM', stream)) as unknown[];
      const fact = (name: string) => String(facts[facts.indexOf(name) + 1]);
      const added = Number(fact('entries-added')) - 2;
      await redis.call('XSETID', stream, fact('last-generated-id'), 'ENTRIESADDED', added, 'MAXDELETEDID', '0-0');
      const result = await audit();
      assert.equal(result.code, 0, result.out);
      assert.equal(await number('SELECT sold FROM sales'), 5);
      assert.equal(Number(await redis.get(`seckill:${item}:stock`)), 5);
    } finally {
      redis.disconnect();
      await db.end();
    }
  });
});
