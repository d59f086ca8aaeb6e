import assert from 'node:assert/strict';
import pg from 'pg';
import { isOrderCancelled } from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { PgOrderArchive } from '../../internal/data/postgres/retention/orders.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const USER = formatUserId('31000');
const ORDERS = 70;
const PAGE = 7;

describe('The archive of finished orders', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  /** The owner of the database. */
  let owner: pg.Pool;
  let archive: PgOrderArchive;
  let planId: bigint;

  before(async () => {
    replica = await startReplica(servers);
    owner = new pg.Pool({ connectionString: servers.postgresUrl, max: 4 });
    archive = new PgOrderArchive(replica.db);
    planId = (await replica.plan()).id;
  });
  after(async () => {
    await owner?.end();
    await replica?.close();
  });
  afterEach(async () => {
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [6, 12, 13, 15, 18]), []);
  });

  const one = async <T>(text: string): Promise<T> =>
    (await owner.query<{ value: T }>(`SELECT ${text} AS value`)).rows[0]!.value;
  const isArchived = (id: bigint) => one<boolean>(`EXISTS (SELECT FROM orders_archive WHERE id = ${id})`);
  /** Moves those that are finished, whatever their age. */
  const move = (...ids: readonly bigint[]) =>
    replica.db.run((tx) => archive.delete(tx, { scope: '', keys: ids.map(String), beforeMs: undefined }, -60_000));

  let users = 31_000;
  const cancelled = async (userId = formatUserId(String(++users)), requestId = ''): Promise<Order> => {
    const { id } = await replica.orders.create({ userId, productId: planId, quantity: 1, remark: '', requestId });
    return replica.orders.cancel(id, userId, '');
  };
  const received = async (): Promise<Order> => {
    const { id: skuId } = await replica.sku(10n);
    const userId = formatUserId(String(++users));
    const { id: orderId } = await replica.goodsOrders.create({
      ...{ userId, lines: [{ skuId, quantity: 2 }], receiver: RECEIVER, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
    await replica.pay(orderId);
    await replica.shipments.ship({ orderId, carrier: 'SF', trackingNumbers: [`SF${orderId}`] });
    return replica.shipments.confirm(orderId, userId);
  };

  it('takes an order with its lines and events, which read as before, and leaves unfinished ones', async () => {
    const order = await received();
    const open = await replica.orders.create({
      ...{ userId: order.userId, productId: planId, quantity: 1, remark: '', requestId: '' },
    });
    const events = await replica.orderRepo.listEvents(order.id);
    assert.equal(await move(order.id, open.id), 1);
    assert.deepEqual([await isArchived(order.id), await isArchived(open.id)], [true, false]);
    assert.deepEqual(await replica.orders.get(order.id, order.userId), order);
    assert.deepEqual(await replica.orderRepo.listEvents(order.id), events);
    assert.equal(await one(`(SELECT count(*)::int FROM order_items_archive WHERE order_id = ${order.id})`), 1);
    assert.equal(await one(`(SELECT status FROM order_info WHERE id = ${order.id})`), 'COMPLETED');
    await replica.orders.cancel(open.id, order.userId, '');
  });

  it('keeps every list whole while it takes orders and gives them back: no order is missing or there twice', async () => {
    const userId = USER;
    await owner.query(
      `INSERT INTO orders (id, user_id, product_id, req_id, amount, status, source, created_at)
        SELECT 1000 + n, $1, $2, 1000 + n, n, 2, 'NORMAL', now() - n % 10 * interval '1 min' FROM generate_series(1, $3) AS n`,
      [userId, planId, ORDERS],
    );
    const { rows } = await owner.query<{ id: string }>(
      'SELECT id FROM orders WHERE user_id = $1 ORDER BY created_at DESC, id DESC',
      [userId],
    );
    const expected = rows.map(({ id }) => BigInt(id));
    let moving = true;
    const mover = async () => {
      let moved = 0;
      for (let i = 0; moving; i++) {
        const ids = Array.from({ length: 10 }, (_, n) => 1001n + BigInt((i * 37 + n * 11) % ORDERS));
        moved += await move(...ids);
        if (i % 3 === 2) await owner.query('SELECT unarchive_orders($1)', [ids.map(String)]);
      }
      return moved;
    };
    const movers = [mover(), mover()];
    for (let list = 0; list < 8; list++) {
      const seen: bigint[] = [];
      let afterId: bigint | undefined;
      do {
        const page = await replica.orderRepo.list(userId, {}, { offset: 0, limit: PAGE, afterId });
        assert.equal(page.total, BigInt(ORDERS));
        seen.push(...page.items.map(({ id }) => id));
        afterId = page.items.at(-1)?.id;
      } while (afterId !== undefined && seen.length < 2 * ORDERS);
      assert.deepEqual(seen, expected);
    }
    moving = false;
    // Both movers take the same orders: one of them may always come second, and find nothing to move.
    const moved = await Promise.all(movers);
    assert.ok(moved.reduce((sum, count) => sum + count) > 0, 'nothing moved');
  });

  /** Runs `work`, which waits for a lock of the order, while a move of the order has not been committed. */
  async function duringMove<T>(id: bigint, work: () => Promise<T>, end: 'COMMIT' | 'ROLLBACK' = 'COMMIT'): Promise<T> {
    const client = await owner.connect();
    try {
      await client.query('BEGIN');
      const { rows } = await client.query<{ moved: string }>(
        `SELECT archive_orders(ARRAY[$1::bigint], 'infinity') AS moved`,
        [id],
      );
      assert.equal(rows[0]?.moved, '1');
      const result = work();
      await eventually('the work waits for the lock', () =>
        one<boolean>(
          `EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())`,
        ),
      );
      await client.query(end);
      return await result;
    } finally {
      client.release();
    }
  }

  it('is searched by a call that waited for the lock of an order which then moved there', async () => {
    const order = await cancelled();
    const locked = await duringMove(order.id, () =>
      replica.db.run((tx) => replica.orderRepo.lock(tx, order.id, order.userId)),
    );
    assert.deepEqual(locked, order);
    const another = await cancelled();
    await duringMove(another.id, () => replica.orders.delete(another.id, another.userId));
    assert.equal(await one(`(SELECT deleted FROM orders_archive WHERE id = ${another.id})`), true);
  });

  it('answers a repeated request id with the order in it, also while that order is moving', async () => {
    const order = await cancelled(undefined, 'same');
    const repeat = () =>
      replica.orders.create({ userId: order.userId, productId: planId, quantity: 1, remark: '', requestId: 'same' });
    const client = await owner.connect();
    try {
      await client.query('BEGIN');
      await client.query(`SELECT archive_orders(ARRAY[$1::bigint], 'infinity')`, [order.id]);
      assert.equal((await repeat()).id, order.id);
      // As a process of the previous version, or one that did not find the order, would insert it.
      const { rowCount } = await owner.query(
        `INSERT INTO orders (id, user_id, product_id, req_id, amount, source, request_id) VALUES (1, $1, $2, 1, 1, 'NORMAL', 'same')
          ON CONFLICT (user_id, request_id) WHERE request_id IS NOT NULL DO NOTHING`,
        [order.userId, planId],
      );
      assert.equal(rowCount, 0);
      await client.query('COMMIT');
    } finally {
      client.release();
    }
    assert.equal(await isArchived(order.id), true);
    assert.equal((await repeat()).id, order.id);
    const again = { ...order, id: order.id + 1n, reqId: order.reqId + 1n, status: 'PENDING' as const };
    assert.equal(await replica.db.run((tx) => replica.orderRepo.insert(tx, [again], 'user')), false);
    assert.equal(await one(`(SELECT count(*)::int FROM orders WHERE user_id = '${order.userId}')`), 1);
  });

  it('gives an order back that is refunded, and its late payment is recorded and refunded', async () => {
    const order = await received();
    const unpaid = await cancelled();
    assert.equal(await move(order.id, unpaid.id), 2);
    const { id: refundId } = await replica.refundRequests.request({
      ...{ orderId: order.id, userId: order.userId, reason: 'r', lines: [], requestId: '' },
    });
    assert.equal(await isArchived(order.id), false);
    assert.equal((await replica.orders.get(order.id, undefined)).status, 'REFUNDING');
    assert.equal(await one(`(SELECT count(*)::int FROM ONLY order_items WHERE order_id = ${order.id})`), 1);
    await replica.refunds.approve(refundId);
    await assert.rejects(replica.pay(unpaid.id), isOrderCancelled);
    assert.equal(await isArchived(unpaid.id), true);
    for (const claim of await replica.refunds.claim(100)) {
      assert.equal(await replica.refunds.payOut(claim), 'done');
    }
    assert.equal((await replica.orders.get(order.id, undefined)).status, 'CANCELLED');
    assert.equal(await one(`(SELECT status FROM refunds WHERE order_id = ${unpaid.id})`), 'DONE');
  });

  it('lets lines of an order in it be refunded', async () => {
    const order = await received();
    await move(order.id);
    const [line] = order.items;
    const { id } = await replica.refundRequests.request({
      ...{
        orderId: order.id,
        userId: order.userId,
        reason: 'r',
        lines: [{ skuId: line!.skuId, quantity: 1 }],
        requestId: '',
      },
    });
    await replica.refunds.approve(id);
    for (const claim of await replica.refunds.claim(100)) await replica.refunds.payOut(claim);
    assert.equal(await isArchived(order.id), true);
    const after = await replica.orders.get(order.id, order.userId);
    assert.deepEqual([after.refundedFen, after.keptQuantity], [line!.priceFen, 2]);
  });

  it('is referred to like the orders: rows of an order that does not exist are refused', async () => {
    const order = await cancelled();
    await move(order.id);
    const pay = (orderId: bigint, eventId: string) =>
      owner.query(
        `INSERT INTO payments (id, order_id, provider, event_id, amount, outcome) VALUES ($1, $1, 'q', $2, 0, 'REFUNDED')`,
        [orderId, eventId],
      );
    await pay(order.id, 'a');
    await owner.query(`DELETE FROM payments WHERE provider = 'q'`);
    await assert.rejects(pay(2n, 'b'), (err: pg.DatabaseError) => {
      assert.deepEqual([err.code, err.constraint], ['23503', 'payments_order_exists']);
      return true;
    });
    await assert.rejects(replica.db.pool.query('DELETE FROM orders WHERE id = $1', [order.id]), /permission denied/);
  });

  it('takes an order once when two replicas move it, and none when the transaction dies', async () => {
    const ids: bigint[] = [];
    for (let i = 0; i < 20; i++) ids.push((await cancelled()).id);
    const client = await owner.connect();
    const pid = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows[0]?.pid;
    client.on('error', () => {});
    await client.query('BEGIN');
    await client.query(`SELECT archive_orders($1, 'infinity')`, [ids.map(String)]);
    assert.equal(await move(...ids), 0, 'it waited for another replica');
    await owner.query('SELECT pg_terminate_backend($1, 5000)', [pid]);
    client.release(true);
    assert.equal(await one(`(SELECT count(*)::int FROM orders_archive WHERE id = ANY ('{${ids.join()}}'))`), 0);
    const moved = await Promise.all([move(...ids), move(...ids), move(...ids.slice(10))]);
    assert.equal(
      moved.reduce((sum, n) => sum + n, 0),
      ids.length,
    );
    assert.equal(await one(`(SELECT count(*)::int FROM orders WHERE id = ANY ('{${ids.join()}}'))`), ids.length);
  });
});
