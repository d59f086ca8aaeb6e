import assert from 'node:assert/strict';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { migrate } from '../../internal/data/postgres/migrate.js';
import { loadMigrations, type Migration } from '../../internal/data/postgres/migration-file.js';
import { projectRoot } from '../../internal/local/project.js';
import { SALE_INVARIANTS, violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

/** Below the 10 s of a process, so that a call that waits for a migration fails, and one on a busy machine does not. */
const STATEMENT_TIMEOUT_MS = 4_000;
const BUYERS_AT_ONCE = 4;

describe('A migration of a system that sells', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let reader: pg.Client;

  before(async () => {
    replica = new SeckillReplica(servers, 5_000, STATEMENT_TIMEOUT_MS);
    await replica.start();
    reader = new pg.Client({ connectionString: servers.postgresUrl });
    await reader.connect();
  });
  after(async () => {
    await reader.end();
    await replica.close();
  });

  it('gives up its lock while a long report reads the table, and sales and orders go on', async () => {
    const applied = await loadMigrations(join(projectRoot, 'migrations'));
    const next = (n: number, sql: string): Migration => {
      const version = applied.length + n;
      return { version, name: `${version}_test.sql`, sql, checksum: String(n).repeat(64) };
    };
    const changes = [
      next(1, "ALTER TABLE orders ADD COLUMN gift BOOLEAN NOT NULL DEFAULT false, ADD CHECK (remark <> 'x') NOT VALID"),
      next(2, '-- no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS orders_gift ON orders (gift) WHERE gift;'),
    ];
    const { itemId, plan } = await replica.openSale({ total: 100_000n, payMode: 'PAY_LATER' });
    const consumer = replica.consumer('live');
    await consumer.start();
    let user = 0;
    let bought = 0;
    let migrated = false;
    const failures: unknown[] = [];
    const buyer = async () => {
      while (!migrated) {
        const own = ++user;
        try {
          assert.equal((await replica.buy(itemId, own)).kind, 'QUEUED');
          await replica.orders.create({
            userId: formatUserId(String(own)),
            productId: plan.id,
            quantity: 1,
            requestId: '',
            remark: '',
          });
          bought += 1;
        } catch (err) {
          failures.push(err);
        }
        await sleep(5);
      }
    };
    const buying = Array.from({ length: BUYERS_AT_ONCE }, buyer);
    try {
      // A report: it locks nothing that a buyer needs, only what ALTER TABLE needs.
      await reader.query('BEGIN; SELECT count(*) FROM orders');
      const lines: string[] = [];
      const migrating = migrate(servers.postgresUrl, [...applied, ...changes], { report: (line) => lines.push(line) });
      await eventually(
        'it was refused the lock three times',
        () => lines.filter((l) => l.includes('got no lock')).length > 2,
      );
      const before = bought;
      await eventually('buyers go on between its attempts', () => bought > before + 20);
      await reader.query('COMMIT');
      assert.deepEqual(
        await migrating,
        changes.map((m) => m.name),
      );
      const after = bought;
      await eventually('buyers go on after it', () => bought > after + 20);
    } finally {
      migrated = true;
      await Promise.all(buying);
      await eventually('all purchases are settled', () => replica.idle(itemId));
      await consumer.stop(AbortSignal.timeout(5_000));
    }
    assert.deepEqual(failures, []);
    const [orders] = await replica.rows<{ n: bigint }>('SELECT count(*) AS n FROM orders WHERE NOT gift');
    assert.equal(Number(orders?.n), 2 * bought);
    assert.deepEqual(await violationsOf(replica.db, replica.redis, SALE_INVARIANTS), []);
  });
});
