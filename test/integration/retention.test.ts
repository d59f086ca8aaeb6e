import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { instanceName } from '../../internal/biz/instance/instance.js';
import {
  type RetentionFailure,
  type RetentionPolicy,
  RetentionUsecase,
} from '../../internal/biz/retention/retention.js';
import { type Transaction, TransactionRunner } from '../../internal/biz/transaction.js';
import { PgGuestCartRetention } from '../../internal/data/postgres/retention/guest-carts.js';
import { PgDeadLetterRetention, PgInboxRetention } from '../../internal/data/postgres/retention/inbox.js';
import { PgRetentionLease } from '../../internal/data/postgres/retention/lease.js';
import { PgOrderEventRetention } from '../../internal/data/postgres/retention/order-events.js';
import { PgOrderArchive } from '../../internal/data/postgres/retention/orders.js';
import { PgOutboxRetention } from '../../internal/data/postgres/retention/outbox.js';
import { RedisPurchaseStream } from '../../internal/data/redis/purchase-stream.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const DAY_MS = 86_400_000;
const KEEP_MS = 30 * DAY_MS;
const EVERYTHING = {
  outbox: KEEP_MS,
  inbox: KEEP_MS,
  order_events: KEEP_MS,
  dead_letters: KEEP_MS,
  guest_carts: KEEP_MS,
  orders: 0,
};

/** Moves everything 40 days into the past, the stream ids with it. */
const AGE = `
  UPDATE orders SET created_at = created_at - interval '40 days', updated_at = updated_at - interval '40 days', paid_at = paid_at - interval '40 days',
    completed_at = completed_at - interval '40 days', pay_deadline = pay_deadline - interval '40 days';
  UPDATE order_events SET at = at - interval '40 days';
  UPDATE outbox SET created_at = created_at - interval '40 days', published_at = published_at - interval '40 days';
  UPDATE instance_requests SET created_at = created_at - interval '40 days', source_id = CASE source WHEN 'SECKILL'
    THEN (split_part(source_id, '-', 1)::bigint - 40 * 86400000::bigint) || '-' || split_part(source_id, '-', 2) ELSE source_id END;
  UPDATE stream_inbox SET created_at = created_at - interval '40 days',
    stream_id = (split_part(stream_id, '-', 1)::bigint - 40 * 86400000::bigint) || '-' || split_part(stream_id, '-', 2);
  UPDATE dead_letters SET created_at = created_at - interval '40 days', resolved_at = resolved_at - interval '40 days',
    message_id = (split_part(message_id, '-', 1)::bigint - 40 * 86400000::bigint) || '-' || split_part(message_id, '-', 2)`;

/** Counts what each transaction deleted. */
class Counting extends TransactionRunner {
  readonly batches: number[] = [];

  constructor(private readonly inner: TransactionRunner) {
    super();
  }

  override async run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const deleted = await this.inner.run(work);
    this.batches.push(Number(deleted));
    return deleted;
  }

  override afterCommit(): void {}
}

describe('Retention', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  /** The owner of the database. */
  let owner: pg.Pool;

  before(async () => {
    replica = await startReplica(servers);
    owner = new pg.Pool({ connectionString: servers.postgresUrl, max: 1 });
  });
  beforeEach(async () => {
    await owner.query(`TRUNCATE orders, order_events, order_stats, sales, stream_inbox, outbox, dead_letters, instance_requests,
      instance_logs, simulated_instances, payments, refunds, retention_marks, retention_leases CASCADE`);
    await replica.redis.commands.flushdb();
  });
  after(async () => {
    await owner?.end();
    await replica?.close();
  });

  const one = async (text: string): Promise<number> =>
    Number((await owner.query<{ n: string }>(`SELECT ${text} AS n`)).rows[0]?.n);
  const count = (table: string) => one(`(SELECT count(*) FROM ${table})`);
  const audit = () => violationsOf(replica.db, replica.redis);
  const streamOf = (itemId: bigint) => saleKeys('', itemId).stream;

  function usecase(policy: Partial<RetentionPolicy> = {}, transactions: TransactionRunner = replica.db) {
    const { db } = replica;
    const stream = new RedisPurchaseStream(replica.redis);
    const stores = [
      new PgOutboxRetention(db),
      new PgInboxRetention(db, stream),
      new PgDeadLetterRetention(db, stream),
      new PgOrderEventRetention(db),
      new PgGuestCartRetention(db),
      new PgOrderArchive(db),
    ];
    const all = { intervalMs: 3_600_000, batchSize: 100, keepMs: EVERYTHING, ...policy };
    return new RetentionUsecase(transactions, new PgRetentionLease(db, 'product'), stores, all);
  }

  /** A whole pass by a new replica. */
  async function pass(policy: Partial<RetentionPolicy> = {}): Promise<RetentionFailure[]> {
    await owner.query('DELETE FROM retention_leases');
    const retention = usecase(policy);
    const failures: RetentionFailure[] = [];
    for (;;) {
      const step = await retention.step();
      failures.push(...step.failures);
      if (step.kind === undefined) return failures;
    }
  }

  /** Stands for the relay and the resource domain. */
  async function provision(): Promise<void> {
    await owner.query(`UPDATE outbox SET published_at = now() WHERE published_at IS NULL`);
    const { rows } = await owner.query<{ id: string }>(
      "SELECT instance_id AS id FROM instance_requests WHERE status = 'REQUESTED'",
    );
    for (const { id } of rows) {
      const name = instanceName(BigInt(id));
      await owner.query(`
        INSERT INTO instance_logs (product_id, user_id, instance_id, source, source_id, order_id, name, cpus, memory_mb, image, status)
          SELECT product_id, user_id, instance_id, source, source_id, order_id, '${name}', 2, 4096, 'debian-12', 'SUCCESS'
          FROM instance_requests WHERE instance_id = ${id};
        INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
          SELECT name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image FROM instance_logs WHERE instance_id = ${id}`);
      await replica.instances.reportInstance({ instanceId: BigInt(id), status: 'SUCCESS', reason: '' });
    }
  }

  /** A sale of 3 units that is over: 3 completed orders, 1 rejection, 1 dead letter that was dropped. */
  async function finishedSale(): Promise<bigint> {
    const { itemId } = await replica.openSale({ total: 3n });
    for (const user of [1, 2, 3]) await replica.buy(itemId, user);
    await replica.add(itemId, 'uid', formatUserId('4'));
    await replica.add(itemId, 'uid', 'no-uuid');
    await settle(itemId);
    await provision();
    await replica.sales.close(itemId);
    await owner.query("UPDATE dead_letters SET resolved_at = now(), resolution = 'dropped: test'");
    return itemId;
  }

  async function settle(itemId: bigint): Promise<void> {
    const consumer = replica.consumer('a');
    await consumer.start();
    await eventually('the stream is empty', () => replica.idle(itemId));
    await consumer.stop(AbortSignal.timeout(10_000));
  }

  it('deletes what is old and finished, writes down how much, and leaves the audit clean', async () => {
    const itemId = await finishedSale();
    assert.deepEqual(await audit(), []);
    await owner.query(AGE);
    assert.deepEqual(await audit(), []);
    assert.deepEqual(await pass(), []);
    assert.equal(await count('orders'), 3);
    for (const table of ['stream_inbox', 'dead_letters', 'outbox']) assert.equal(await count(table), 0, table);
    assert.equal(await count('order_events'), 3, 'the first event of each order');
    const { rows } = await owner.query(
      'SELECT kind, scope, rows_deleted::int AS rows FROM retention_marks ORDER BY kind COLLATE "C"',
    );
    assert.deepEqual(rows, [
      { kind: 'dead_letters', scope: '', rows: 1 },
      { kind: 'inbox_dead', scope: String(itemId), rows: 1 },
      { kind: 'inbox_order', scope: String(itemId), rows: 3 },
      { kind: 'inbox_rejected', scope: String(itemId), rows: 1 },
      { kind: 'order_events', scope: '', rows: 3 },
      { kind: 'outbox', scope: 'instance.created', rows: 3 },
    ]);
    assert.deepEqual(await audit(), []);
  });

  it('keeps what is young, unfinished, unresolved, or kept for ever', async () => {
    await finishedSale();
    assert.deepEqual(await pass(), []);
    assert.equal(await count('retention_marks'), 0, 'everything is young');
    await owner.query(`${AGE};
      UPDATE sales SET status = 1;
      UPDATE dead_letters SET resolved_at = NULL;
      UPDATE instance_requests SET status = 'REQUESTED';
      UPDATE orders SET status = 1, completed_at = NULL`);
    assert.deepEqual(await pass(), []);
    assert.equal(await count('retention_marks'), 0, 'nothing is finished');
    await owner.query(`UPDATE sales SET status = 2; UPDATE dead_letters SET resolved_at = now() - interval '40 days'`);
    assert.deepEqual(
      await pass({ keepMs: { outbox: 0, inbox: 0, order_events: 0, dead_letters: 0, guest_carts: 0, orders: 0 } }),
      [],
    );
    assert.equal(await count('retention_marks'), 0, 'everything is kept for ever');
    assert.equal(await count('stream_inbox'), 5);
  });

  it('keeps the events of an order that has a young one, and deletes those of the others', async () => {
    await finishedSale();
    await owner.query(`${AGE};
      UPDATE order_events SET at = now() WHERE version = 2 AND order_id = (SELECT max(id) FROM orders)`);
    assert.deepEqual(await pass(), []);
    const { rows } = await owner.query(
      'SELECT count(*)::int AS events FROM order_events GROUP BY order_id ORDER BY order_id',
    );
    assert.deepEqual(rows, [{ events: 1 }, { events: 1 }, { events: 2 }]);
  });

  it('moves finished orders to the archive, where reads and the audit find them, and nothing else', async () => {
    await finishedSale();
    await owner.query(`${AGE};
      UPDATE orders SET status = 1, completed_at = NULL WHERE id = (SELECT min(id) FROM orders);
      UPDATE instance_requests SET status = 'REQUESTED' WHERE order_id = (SELECT min(id) FROM orders)`);
    const before = await owner.query('SELECT * FROM orders ORDER BY id');
    const violations = await audit();
    assert.deepEqual(await pass({ keepMs: { ...EVERYTHING, orders: KEEP_MS } }), []);
    assert.deepEqual([await count('ONLY orders'), await count('orders_archive')], [1, 2]);
    assert.deepEqual([await count('ONLY order_events'), await count('order_events_archive')], [2, 2]);
    assert.deepEqual((await owner.query('SELECT * FROM orders ORDER BY id')).rows, before.rows);
    assert.deepEqual(await audit(), violations);
    assert.ok(
      violations.every((v) => v.startsWith('10 ')),
      violations.join(),
    );
  });

  it('isolates and names an order that cannot move to the archive, and moves the others', async () => {
    await finishedSale();
    const poisoned = (await owner.query<{ id: string }>('SELECT min(id)::text AS id FROM orders')).rows[0]!.id;
    await owner.query(`${AGE}; ALTER TABLE orders_archive ADD CONSTRAINT poisoned CHECK (id <> ${poisoned})`);
    try {
      const failures = await pass({ keepMs: { ...EVERYTHING, orders: KEEP_MS } });
      assert.deepEqual(
        failures.map(({ kind, row }) => [kind, row]),
        [['orders', poisoned]],
      );
      assert.deepEqual([await count('ONLY orders'), await count('orders_archive')], [1, 2]);
    } finally {
      await owner.query('ALTER TABLE orders_archive DROP CONSTRAINT poisoned');
    }
  });

  it('moves no order to the archive while their sale is not over, a refund is open, or a payment may come', async () => {
    const itemId = await finishedSale();
    const [sale] = (await owner.query<{ id: string }>(`SELECT id FROM sales WHERE item_id = ${itemId}`)).rows;
    await owner.query(`${AGE};
      UPDATE sales SET admission_closed_at = NULL;
      UPDATE orders SET sale_id = NULL WHERE id <> (SELECT min(id) FROM orders);
      INSERT INTO refunds (id, order_id, user_id, amount, reason, kind, status)
        SELECT 1, id, user_id, 0, '', 'WHOLE', 'REQUESTED' FROM orders ORDER BY id DESC LIMIT 1;
      INSERT INTO payment_sessions (id, order_id, provider, amount, expires_at, next_look_up_at)
        SELECT 1, id, 'p', 0, now(), now() FROM orders ORDER BY id OFFSET 1 LIMIT 1`);
    const archive = { keepMs: { ...EVERYTHING, orders: KEEP_MS } };
    assert.deepEqual(await pass(archive), []);
    assert.equal(await count('orders_archive'), 0);
    await owner.query(`UPDATE sales SET admission_closed_at = now() WHERE id = ${sale?.id};
      UPDATE refunds SET status = 'REFUSED';
      UPDATE payment_sessions SET status = 'CLOSED', ended_at = now()`);
    assert.deepEqual(await pass(archive), []);
    assert.equal(await count('orders_archive'), 3);
    await owner.query('DELETE FROM refunds; DELETE FROM payment_sessions');
  });

  it('deletes the carts of guests some time after their tokens expired, and none of users', async () => {
    await owner.query(`WITH c AS (
        INSERT INTO carts (owner_id, guest, version, expires_at)
        SELECT gen_random_uuid(), days IS NOT NULL, days, now() - days * interval '1 day'
        FROM unnest(ARRAY[40, 31, 29, -1]) AS d(days) RETURNING *)
      INSERT INTO cart_items (owner_id, guest, sku_id, quantity, selected, added_at)
      SELECT owner_id, guest, 1, 1, true, now() FROM c`);
    await owner.query(`INSERT INTO carts (owner_id, guest, version, saved_at)
      VALUES (gen_random_uuid(), false, 1000, now() - interval '400 days')`);
    assert.deepEqual(await pass({ batchSize: 1 }), []);
    const versions = async (table: string) =>
      (await owner.query<{ version: string }>(`SELECT version FROM ${table} ORDER BY version`)).rows.map((r) =>
        Number(r.version),
      );
    assert.deepEqual(await versions('carts'), [-1, 29, 1000]);
    assert.deepEqual(await versions('cart_items JOIN carts USING (owner_id, guest)'), [-1, 29]);
    await owner.query('DELETE FROM carts');
  });

  it('keeps the events of requests that the resource domain has no log of, because they are lost or on their way', async () => {
    await finishedSale();
    await owner.query(`${AGE}; DELETE FROM instance_logs WHERE id = (SELECT max(id) FROM instance_logs)`);
    await pass();
    assert.equal(await count('outbox'), 1);
    assert.ok((await audit()).some((v) => /^8 outbox \d+: instance \d+ was published, but/.test(v)));
  });

  it('keeps the rows of entries that the stream may deliver again', async () => {
    const { itemId } = await replica.openSale({
      total: 10n,
      startsAt: new Date(Date.now() - 50 * DAY_MS),
      defaultLimit: 10,
    });
    const old = Date.now() - 40 * DAY_MS;
    await replica.redis.commands.del(streamOf(itemId));
    for (let i = 0; i < 4; i++) {
      await replica.redis.commands.xadd(streamOf(itemId), `${old + i}-0`, 'uid', formatUserId(String(i + 1)));
    }
    // Settled, but not removed: the consumer died in between.
    await replica.settle(itemId, await replica.deliveries(itemId));
    await replica.redis.commands.xdel(streamOf(itemId), `${old}-0`, `${old + 1}-0`);
    await provision();
    await replica.sales.close(itemId);
    await owner.query(`UPDATE stream_inbox SET created_at = created_at - interval '41 days'`);
    await pass();
    const { rows } = await owner.query<{ stream_id: string }>('SELECT stream_id FROM stream_inbox ORDER BY stream_id');
    assert.deepEqual(
      rows.map((row) => row.stream_id),
      [`${old + 2}-0`, `${old + 3}-0`],
    );
    // They are delivered again: the inbox still answers.
    await settle(itemId);
    assert.equal(await count('orders'), 4);
  });

  it('gets no entry settled twice whose row is gone, even if a copy of Redis is put back', async () => {
    const itemId = await finishedSale();
    await owner.query(AGE);
    const { rows } = await owner.query<{ stream_id: string; user_id: string | null; outcome: string }>(
      "SELECT stream_id, user_id, outcome FROM stream_inbox WHERE outcome <> 'DEAD' ORDER BY stream_id",
    );
    await pass();
    assert.equal(await count('stream_inbox'), 0);
    // An order was cancelled meanwhile, so the sale has a unit for the one who was rejected.
    await owner.query(`UPDATE sales SET sold = sold - 1`);
    const epoch = await one('(SELECT epoch FROM sales)');
    await replica.redis.commands.del(streamOf(itemId));
    for (const { stream_id: id, user_id: uid } of rows) {
      await replica.redis.commands.xadd(streamOf(itemId), id, 'uid', uid!, 'epoch', String(epoch), 'req_id', '77');
    }
    await settle(itemId);
    assert.equal(await count('orders'), 3);
    const outcomes = await owner.query('SELECT DISTINCT outcome, reason FROM stream_inbox');
    assert.deepEqual(outcomes.rows, [{ outcome: 'REJECTED', reason: 'TOO_OLD' }]);
    // A purchase of today is not affected.
    await replica.openSaleOf(itemId, { total: 5n });
    await replica.buy(itemId, 9);
    await settle(itemId);
    assert.equal(await count('orders'), 4);
  });

  describe('hides no damage', () => {
    const found = async (damage: string): Promise<string[]> => {
      await owner.query(damage);
      return audit();
    };

    it('to rows that it would have deleted', async () => {
      const itemId = await finishedSale();
      await owner.query(AGE);
      await owner.query('DELETE FROM stream_inbox WHERE order_id = (SELECT max(order_id) FROM stream_inbox)');
      await owner.query('DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox)');
      await pass();
      const violations = await audit();
      assert.ok(
        violations.some((v) => v.startsWith(`5 inbox of item ${itemId}: 3 orders from before`)),
        violations.join('\n'),
      );
      assert.ok(violations.some((v) => v.startsWith('7 outbox of topic instance.created: 3 requests from before')));
    });

    it('to rows that are younger', async () => {
      await finishedSale();
      await owner.query(AGE);
      await pass();
      await finishedSale();
      assert.deepEqual(await audit(), []);
      const violations = await found(`
        DELETE FROM stream_inbox WHERE order_id = (SELECT max(order_id) FROM stream_inbox);
        DELETE FROM dead_letters;
        DELETE FROM outbox WHERE id = (SELECT max(id) FROM outbox)`);
      const expected = [
        /^4 stream of item \d+: 1 entries left/,
        /^5 order \d+: 0 inbox rows/,
        /^5 entry .* no dead letter/,
        /^7 /,
      ];
      for (const pattern of expected)
        assert.ok(
          violations.some((v) => pattern.test(v)),
          `${pattern}\n${violations.join('\n')}`,
        );
    });

    it('to old events that it kept, because their request has no result', async () => {
      await finishedSale();
      await owner.query(AGE);
      await owner.query(
        "UPDATE instance_requests SET status = 'REQUESTED' WHERE instance_id = (SELECT max(instance_id) FROM instance_requests)",
      );
      await pass();
      assert.equal(await count('outbox'), 1);
      const violations = await found('DELETE FROM outbox');
      assert.ok(
        violations.some((v) => /^7 instance \d+: a request without an event$/.test(v)),
        violations.join('\n'),
      );
    });
  });

  describe('with 20,000 old rows', () => {
    const ROWS = 20_000;
    beforeEach(() =>
      owner.query(`INSERT INTO outbox (topic, ref_id, payload, created_at, published_at)
        SELECT 'seckill.return', n, '', now() - interval '40 days', now() - interval '40 days'
        FROM generate_series(1, ${ROWS}) AS n`),
    );

    it('deletes them in batches, one replica at a time, and another goes on after a replica that died', async () => {
      const transactions = [new Counting(replica.db), new Counting(replica.db)] as const;
      const [first, second] = transactions.map((t) => usecase({ batchSize: 500, intervalMs: 1 }, t)) as [
        RetentionUsecase,
        RetentionUsecase,
      ];
      assert.equal((await first.step()).deleted, 2_000);
      assert.equal((await second.step()).deleted, 0, 'the first has the lease');
      // The first dies here: its lease ends.
      await owner.query("UPDATE retention_leases SET until = now() - interval '1 second'");
      await eventually('the second asks again', async () => (await second.step()).deleted > 0);
      assert.equal((await first.step()).deleted, 0, 'the second has the lease');
      await eventually('the end of the pass', async () => (await second.step()).kind === undefined);
      assert.equal(await count('outbox'), 0);
      const batches = transactions.flatMap((t) => t.batches);
      assert.equal(
        batches.reduce((sum, n) => sum + n, 0),
        ROWS,
      );
      assert.ok(
        batches.every((n) => n <= 500),
        `batches of ${Math.max(...batches)} rows`,
      );
      assert.equal(await one('(SELECT rows_deleted FROM retention_marks)'), ROWS);
    });

    it('isolates and names a row that cannot be deleted', async () => {
      await owner.query(`
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poisoned'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON outbox FOR EACH ROW WHEN (OLD.ref_id = 777) EXECUTE FUNCTION refuse()`);
      try {
        const failures = await pass({ batchSize: 500 });
        assert.deepEqual(
          failures.map(({ kind, cause }) => `${kind}: ${(cause as Error).message}`),
          ['outbox: poisoned'],
        );
        assert.equal(failures[0]?.row, String(await one('(SELECT id FROM outbox WHERE ref_id = 777)')));
        assert.equal(await count('outbox'), 1);
      } finally {
        await owner.query('DROP TRIGGER refuse ON outbox; DROP FUNCTION refuse');
      }
      assert.deepEqual(await pass(), []);
      assert.equal(await one('(SELECT rows_deleted FROM retention_marks)'), ROWS);
    });
  });
});
