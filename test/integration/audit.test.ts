import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import pg from 'pg';
import { isOrderCancelled } from '../../gen/order/v1/errors.js';
import { AuditUsecase } from '../../internal/biz/audit/audit.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { instanceName } from '../../internal/biz/instance/instance.js';
import type { Delivery } from '../../internal/biz/seckill/purchase-stream.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import { auditChecks } from '../../internal/data/postgres/audit/checks.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { projectRoot } from '../../internal/local/project.js';
import { SALE_INVARIANTS, violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const GROUP = 'product';

describe('kaimai audit', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  /** The owner of the database, who may also change the schema and the tables of the resource domain. */
  let owner: pg.Pool;

  before(async () => {
    replica = await startReplica(servers);
    owner = new pg.Pool({ connectionString: servers.postgresUrl, max: 1 });
  });
  after(async () => {
    await owner?.end();
    await replica?.close();
  });

  const sql = <T extends object>(text: string, ...values: unknown[]) => replica.rows<T>(text, ...values);
  const force = (text: string) => owner.query(text);
  const audit = (only?: readonly number[]) => violationsOf(replica.db, replica.redis, only);
  const add = (itemId: bigint, ...fields: string[]) =>
    replica.redis.commands.xadd(saleKeys('', itemId).stream, '*', ...fields) as Promise<string>;
  const deliveries = async (itemId: bigint): Promise<Delivery[]> => {
    const entries = await replica.redis.commands.xrange(saleKeys('', itemId).stream, '-', '+');
    return entries.map(([streamId, raw]) => ({
      streamId,
      fields: new Map(Array.from({ length: raw.length / 2 }, (_, i) => [raw[2 * i]!, raw[2 * i + 1]!])),
      deliveries: 1,
    }));
  };
  /** Settles all entries of these streams by a consumer, which then stops. */
  const settle = async (...itemIds: bigint[]) => {
    const consumer = replica.consumer('a');
    await consumer.start();
    for (const itemId of itemIds) await eventually('the stream is empty', () => replica.idle(itemId));
    await consumer.stop(AbortSignal.timeout(10_000));
  };
  /** Stands for the relay and the resource domain: creates every requested instance, except the `failing` ones. */
  const provision = async (failing: readonly bigint[] = []) => {
    const asked = await sql<{ instance_id: bigint; order_id: bigint | null }>(
      `UPDATE outbox SET published_at = now() WHERE topic = 'instance.created' AND published_at IS NULL
         AND NOT EXISTS (SELECT FROM instance_logs l WHERE l.instance_id = ref_id) RETURNING ref_id AS instance_id`,
    );
    for (const { instance_id: id } of asked) {
      const failed = failing.includes(id);
      await force(`
        INSERT INTO instance_logs (product_id, user_id, instance_id, source, source_id, order_id, name, cpus, memory_mb, image, status)
          SELECT product_id, user_id, instance_id, source, source_id, order_id, '${instanceName(id)}', 2, 4096, 'debian-12',
            '${failed ? 'FAILED' : 'SUCCESS'}' FROM instance_requests WHERE instance_id = ${id};
        INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
          SELECT name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image FROM instance_logs
          WHERE instance_id = ${id} AND status = 'SUCCESS'`);
      await replica.instances.reportInstance({ instanceId: id, status: failed ? 'FAILED' : 'SUCCESS', reason: '' });
    }
  };
  const ordersOf = async (itemId: bigint) =>
    (await sql<{ id: bigint }>('SELECT id FROM orders WHERE product_id = $1 ORDER BY req_id < 0, req_id', itemId)).map(
      (o) => o.id,
    );
  const userId = (n: number) => formatUserId(String(n));

  /** A settled sale with every possible outcome of a purchase. */
  const busySale = async (change: Partial<CreateSale> = {}) => {
    // Unpaid orders must not become overdue while other tests run.
    const unhurried = { payMode: 'PAY_LATER', payTimeoutMs: 3_600_000 } as const;
    const { itemId } = await replica.openSale({ total: 12n, ...unhurried, ...change });
    await replica.sales.setVipLimit({ itemId, userId: userId(1), limit: 3, version: 0n });
    for (const user of [1, 1, 2, 3, 4, 5]) await replica.buy(itemId, user);
    await add(itemId, 'uid', '6');
    await add(itemId, 'uid', '6');
    await add(itemId, 'uid', 'no-uuid');
    await settle(itemId);
    const { id: saleId } = (await replica.sales.get(itemId)).sale;
    return { itemId, saleId, orders: await ordersOf(itemId) };
  };

  describe('reports nothing', () => {
    it('after every regular course of a purchase', async () => {
      const { itemId, orders } = await busySale();
      assert.deepEqual(await audit(SALE_INVARIANTS), []);
      const [paid, failed, cancelled, late] = orders as [bigint, bigint, bigint, bigint];
      await replica.pay(paid, 'e1');
      const { instanceId } = await replica.pay(failed, 'e2');
      const buyer = (await sql<{ user_id: string }>('SELECT user_id FROM orders WHERE id = $1', cancelled))[0]!;
      await replica.orders.cancel(cancelled, buyer.user_id, '');
      await assert.rejects(replica.pay(cancelled, 'e3'), isOrderCancelled);
      await sql(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, late);
      await replica.orders.sweepOverdue(10);
      // Units that are being returned are on neither side, but they are counted.
      assert.deepEqual(await audit(SALE_INVARIANTS), []);
      assert.equal(await replica.relayReturns(), 2);
      // A direct purchase, an ordinary order, and a user who holds more than a limit that was lowered afterwards.
      const plan = await replica.plan();
      await add(plan.id, 'uid', '1');
      await settle(plan.id);
      const order = await replica.orders.create({
        userId: userId(1),
        productId: plan.id,
        quantity: 1,
        requestId: 'r',
        remark: '',
      });
      await replica.pay(order.id, 'e4');
      await replica.sales.setVipLimit({ itemId, userId: userId(1), limit: 1, version: 1n });
      await provision([instanceId!]);
      assert.deepEqual(await audit(), []);
      const statuses = await sql<{ status: number }>('SELECT DISTINCT status FROM orders ORDER BY status');
      assert.deepEqual(
        statuses.map((s) => s.status),
        [0, 2, 3, 5],
      );
    });

    it('for a sale that was reloaded while entries waited', async () => {
      const { itemId } = await replica.openSale({ total: 5n, defaultLimit: 2 });
      for (const user of [1, 1, 2]) await replica.buy(itemId, user);
      await add(itemId, 'uid', '3');
      await replica.loader.load(itemId);
      await replica.buy(itemId, 2);
      assert.deepEqual(await audit([1, 2, 3, 5, 6]), []);
      await settle(itemId);
      await provision();
      assert.deepEqual(await audit(), []);
    });
  });

  it('attributes waiting entries, and settled ones that are still in the stream, to the correct side', async () => {
    const { itemId } = await replica.openSale({ total: 4n, defaultLimit: 1 });
    for (const user of [1, 2, 3]) await replica.buy(itemId, user);
    // A foreign entry takes its unit only at settlement. The second one of user 1 is rejected, so it holds none.
    await add(itemId, 'uid', '9');
    await add(itemId, 'uid', '1');
    await add(itemId, 'nonsense', 'x');
    assert.deepEqual(await audit([1, 2, 3, 5, 6]), []);
    const waiting = await audit([4]);
    assert.equal(waiting.length, 6);
    assert.ok(
      waiting.every((o) => /^4 entry \d+-\d+-\d+: not delivered to any consumer$/.test(o)),
      waiting.join('\n'),
    );
    await replica.settle(itemId, await deliveries(itemId));
    assert.deepEqual(await audit([1, 2, 3, 5, 6]), []);
    const settled = await audit([4]);
    assert.ok(settled.every((o) => /: it is (ORDER|REJECTED|DEAD) but is still in the stream$/.test(o)));
    await settle(itemId);
    await provision();
    assert.deepEqual(await audit(), []);
  });

  it('ignores work in progress on a running system, but not entries that are stuck', async () => {
    const { itemId } = await replica.openSale({ total: 4n });
    await replica.buy(itemId, 1);
    const stuck = await add(987_654n, 'uid', '1');
    const consumer = replica.consumer('a', {});
    // It looks again when all work is done that it can have seen in progress.
    const done = async () => {
      await eventually('the purchase is settled', () => replica.idle(itemId));
    };
    const options = { limit: 10, ageMs: 1, only: SALE_INVARIANTS };
    const auditing = new AuditUsecase(auditChecks(replica.db, replica.redis), done).run(options);
    // The entry of the unknown product is pending at a consumer that does nothing.
    await replica.redis.commands.xgroup('CREATE', 'stream:seckill:987654', GROUP, '0');
    await replica.redis.commands.xreadgroup('GROUP', GROUP, 'dead', 'STREAMS', 'stream:seckill:987654', '>');
    await consumer.start();
    try {
      const { findings } = await auditing;
      assert.deepEqual(
        findings.flatMap((f) => f.violations.map((v) => [f.invariant, v.id])),
        [[4, `entry 987654-${stuck}`]],
      );
      assert.match(findings[0]?.violations[0]?.detail ?? '', /^pending at dead for \d+ ms, delivery 1$/);
    } finally {
      await consumer.stop(AbortSignal.timeout(10_000));
    }
    await replica.redis.commands.del('stream:seckill:987654');
    await provision();
    assert.deepEqual(await audit(), []);
  });

  it('exits with 0 if all invariants hold, 1 if one is violated, and 2 if it could not run', async () => {
    const kaimai = (env: Record<string, string>, ...args: string[]) =>
      new Promise<{ code: number; out: string; err: string }>((resolve) => {
        execFile(
          process.execPath,
          [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'audit', ...args],
          { env: { ...process.env, ...servers.env(), ...env }, timeout: 120_000 },
          (error, out, err) => resolve({ code: error ? Number(error.code) : 0, out, err }),
        );
      });
    const healthy = await kaimai({});
    assert.equal(healthy.code, 0, healthy.err);
    assert.match(healthy.out, /^invariants 1, 2, 3, .*: all hold\n$/);
    const { itemId } = await replica.openSale({ total: 4n });
    const { id } = (await replica.sales.get(itemId)).sale;
    await replica.redis.commands.incrby(saleKeys('', itemId).stock, 3);
    const [broken, live] = await Promise.all([
      kaimai({}, '--json', '--only', '1-2,4'),
      kaimai({}, '--live', '0.2', '--only', '2'),
    ]);
    assert.equal(broken.code, 1, broken.err);
    const report = JSON.parse(broken.out) as Record<string, unknown>;
    assert.deepEqual([report.ok, report.checked, report.unchecked], [false, [1, 2, 4], []]);
    const detail = '7 in Redis, 0 live, 0 unprocessed or being returned: 7 of 4';
    assert.deepEqual((report.findings as { violations: unknown }[])[0]?.violations, [{ id: `sale ${id}`, detail }]);
    assert.deepEqual([live.code, live.out.includes(`   sale ${id}: ${detail}\n`)], [1, true]);
    const unreachable = await kaimai({ KAIMAI_POSTGRES_URL: 'postgres://127.0.0.1:1/none' });
    assert.equal(unreachable.code, 2, unreachable.out);
    assert.equal((await kaimai({}, '--only', '99')).code, 1);
    await replica.redis.commands.decrby(saleKeys('', itemId).stock, 3);
    assert.deepEqual(await audit(), []);
  });

  describe('reports', () => {
    let itemId: bigint;
    let saleId: bigint;
    /** `completed`: an order of user 1 that has its instance. `pending`: an unpaid order of user 2. */
    let completed: bigint;
    let pending: bigint;
    let instanceId: bigint;
    const keys = () => saleKeys('', itemId);

    beforeEach(async () => {
      const sale = await busySale();
      ({ itemId, saleId } = sale);
      [completed, , pending] = sale.orders as [bigint, bigint, bigint];
      instanceId = (await replica.pay(completed, `e${completed}`)).instanceId!;
      await provision();
    });

    /** Violations that the earlier tests left behind. */
    let known: ReadonlySet<string> | undefined;
    /** `damage` returns the violation that the audit must report. It may report no other invariant but `alsoBroken`. */
    const reports = (what: string, damage: () => Promise<string>, alsoBroken: readonly number[] = []) => {
      it(what, async () => {
        const before = known ?? new Set(await audit());
        const wanted = await damage();
        known = new Set(await audit());
        const added = [...known].filter((o) => !before.has(o));
        assert.ok(
          added.some((o) => o.startsWith(`${wanted}:`)),
          `${wanted} is not among\n${added.join('\n')}`,
        );
        const expected = [Number(wanted.split(' ', 1)[0]), ...alsoBroken];
        assert.deepEqual(
          added.filter((o) => !expected.includes(Number(o.split(' ', 1)[0]))),
          [],
        );
      });
    };
    const one = async <T extends object>(text: string, ...values: unknown[]) => (await sql<T>(text, ...values))[0]!;
    const give = (text: string) =>
      replica.redis.commands.xreadgroup('GROUP', GROUP, text, 'STREAMS', keys().stream, '>');
    const ofSale = () => `sale ${saleId}`;

    reports('1: a unit that was sold but not counted', async () => {
      await sql('UPDATE sales SET sold = sold - 1 WHERE id = $1', saleId);
      return `1 ${ofSale()}`;
    });
    reports('1: more units sold than the sale has', async () => {
      await force(
        `ALTER TABLE sales DROP CONSTRAINT sales_not_oversold; UPDATE sales SET total = 2 WHERE id = ${saleId}`,
      );
      return `1 ${ofSale()}`;
    }, [2, 16]);
    reports('1: an order of a sale that does not exist', async () => {
      await sql('UPDATE orders SET sale_id = 77 WHERE id = $1', pending);
      return '1 sale 77';
    }, [2, 3, 5]);
    reports('2: a unit too many in Redis', async () => {
      await replica.redis.commands.incr(keys().stock);
      return `2 ${ofSale()}`;
    });
    reports('2: a unit lost in Redis', async () => {
      await replica.redis.commands.decr(keys().stock);
      return `2 ${ofSale()}`;
    });
    reports('2: a sale that Redis has lost', async () => {
      await replica.redis.commands.del(keys().meta);
      return `2 ${ofSale()}`;
    });
    reports('2: a unit of a cancelled order that was not returned', async () => {
      await replica.orders.cancel(pending, userId(2), '');
      await sql("UPDATE outbox SET published_at = now() WHERE topic = 'seckill.return'");
      return `2 ${ofSale()}`;
    }, [3]);
    reports('3: a user who exceeds the limit', async () => {
      await sql('UPDATE orders SET user_id = $2, created_at = clock_timestamp() WHERE id = $1', pending, userId(3));
      return `3 user ${userId(3)} of ${ofSale()}`;
    }, [5]);
    reports('3: a VIP user who exceeds the VIP limit', async () => {
      await sql("UPDATE vip_limits SET units = 1, updated_at = '-infinity' WHERE sale_id = $1", saleId);
      return `3 user ${userId(1)} of ${ofSale()}`;
    });
    reports('3: a buyer who is missing in the buyers hash', async () => {
      await replica.redis.commands.hdel(keys().buyers, userId(2));
      return `3 user ${userId(2)} of ${ofSale()}`;
    });
    reports('3: a buyer in the buyers hash without an order', async () => {
      await replica.redis.commands.hset(keys().buyers, userId(77), '1');
      return `3 user ${userId(77)} of ${ofSale()}`;
    });
    reports('3: a buyer of a waiting entry who is missing in the buyers hash', async () => {
      await replica.buy(itemId, 57);
      await replica.redis.commands.hdel(keys().buyers, userId(57));
      return `3 user ${userId(57)} of ${ofSale()}`;
    }, [4]);
    for (const [field, value] of [
      ['limit', '9'],
      ['total', '9'],
      ['admit_rate', '9'],
      ['starts_ms', '9'],
      ['ends_ms', '4000000000000'],
    ] as const) {
      reports(`16: another ${field} in Redis`, async () => {
        await replica.redis.commands.hset(keys().meta, field, value);
        return `16 ${ofSale()}`;
      });
    }
    reports('16: a closed sale that Redis still admits to', async () => {
      await sql('UPDATE sales SET status = 2 WHERE id = $1', saleId);
      return `16 ${ofSale()}`;
    });
    reports('4: an entry that was never delivered', async () => `4 entry ${itemId}-${await add(itemId, 'uid', '55')}`);
    reports('4: an entry acknowledged without an outcome', async () => {
      const streamId = await add(itemId, 'uid', '55');
      await give('x');
      await replica.redis.commands.xack(keys().stream, GROUP, streamId);
      return `4 entry ${itemId}-${streamId}`;
    });
    reports('4: a pending entry that is not in the stream', async () => {
      const streamId = await add(itemId, 'uid', '55');
      await give('x');
      await replica.redis.commands.xdel(keys().stream, streamId);
      return `4 entry ${itemId}-${streamId}`;
    });
    reports('4: an admitted purchase that was removed from the stream before it was settled', async () => {
      await replica.buy(itemId, 56);
      await replica.redis.commands.xtrim(keys().stream, 'MAXLEN', 0);
      return `4 stream of item ${itemId}`;
    }, [2, 3]);
    reports('5: an inbox row whose order does not exist', async () => {
      const { stream_id } = await one<{ stream_id: string }>(
        'UPDATE stream_inbox SET order_id = 77 WHERE order_id = $1 RETURNING stream_id',
        pending,
      );
      return `5 entry ${itemId}-${stream_id}`;
    });
    reports('5: a flash-sale order without an entry', async () => {
      await sql("UPDATE stream_inbox SET outcome = 'REJECTED', order_id = NULL WHERE order_id = $1", pending);
      return `5 order ${pending}`;
    });
    reports('5: an order with two entries', async () => {
      await sql(
        `INSERT INTO stream_inbox (item_id, stream_id, user_id, quantity, outcome, order_id, sale_id)
           SELECT item_id, '1-1', user_id, quantity, outcome, order_id, sale_id FROM stream_inbox WHERE order_id = $1`,
        pending,
      );
      return `5 order ${pending}`;
    });
    reports('5: a dead entry without a dead letter', async () => {
      const { message_id } = await one<{ message_id: string }>(
        'DELETE FROM dead_letters WHERE origin = $1 RETURNING message_id',
        keys().stream,
      );
      return `5 entry ${itemId}-${message_id}`;
    });
    reports('5: a dead letter of an entry that is not dead', async () => {
      const { id } = await one<{ id: bigint }>(
        "INSERT INTO dead_letters (origin, message_id, payload, reason) VALUES ($1, '1-2', '[]', '') RETURNING id",
        keys().stream,
      );
      return `5 dead letter ${id}`;
    });
    reports('6: a request number that two orders have', async () => {
      const { req_id } = await one<{ req_id: bigint }>('SELECT req_id FROM orders WHERE id = $1', completed);
      await force(
        `DROP INDEX IF EXISTS uk_orders_product_req; UPDATE orders SET req_id = ${req_id} WHERE id = ${pending}`,
      );
      return `6 request number ${req_id} of item ${itemId}`;
    });
    reports('6: a source that two instance logs have', async () => {
      const { source_id } = await one<{ source_id: string }>(
        'SELECT source_id FROM instance_logs WHERE instance_id = $1',
        instanceId,
      );
      await force(`DROP INDEX IF EXISTS uk_instance_logs_source;
        INSERT INTO instance_logs (product_id, user_id, instance_id, source, source_id, status)
        SELECT product_id, user_id, instance_id + 1, source, source_id, 'FAILED' FROM instance_logs
        WHERE instance_id = ${instanceId}`);
      return `6 SECKILL ${source_id} of product ${itemId} in instance_logs`;
    });
    reports('6: an instance that two orders have', async () => {
      await sql('UPDATE orders SET instance_id = $2 WHERE id = $1', pending, instanceId);
      return `6 instance ${instanceId} in orders`;
    });
    reports('7: a paid order without an instance', async () => {
      await sql('UPDATE orders SET instance_id = NULL WHERE id = $1', completed);
      return `7 order ${completed}`;
    }, [10]);
    reports('7: a request without its event', async () => {
      await sql("DELETE FROM outbox WHERE topic = 'instance.created' AND ref_id = $1", instanceId);
      return `7 instance ${instanceId}`;
    });
    reports('7: an event of an unpaid order', async () => {
      await sql('UPDATE instance_requests SET order_id = $2 WHERE instance_id = $1', instanceId, pending);
      return `7 instance ${instanceId}`;
    });
    reports('7: an event without a request', async () => {
      await sql("INSERT INTO outbox (topic, ref_id, payload, published_at) VALUES ('instance.created', 77, '', now())");
      return '7 instance 77';
    }, [8]);
    reports('8: an event that was not published', async () => {
      const { id } = await one<{ id: bigint }>(
        'UPDATE outbox SET published_at = NULL WHERE ref_id = $1 RETURNING id',
        instanceId,
      );
      return `8 outbox ${id}`;
    });
    reports('8: an event that was published but never consumed', async () => {
      await force(`DELETE FROM instance_logs WHERE instance_id = ${instanceId}`);
      return `8 outbox ${(await one<{ id: bigint }>('SELECT id FROM outbox WHERE ref_id = $1', instanceId)).id}`;
    }, [9, 10]);
    it('8: only once, as a dead letter, an event that the resource domain rejected', async () => {
      const event = await one<{ id: bigint }>('SELECT id FROM outbox WHERE ref_id = $1', instanceId);
      const reported = async () => (await audit([8])).some((v) => v.startsWith(`8 outbox ${event.id}:`));
      await force(`DELETE FROM instance_logs WHERE instance_id = ${instanceId};
        INSERT INTO resource_dead_letters (queue, message_id, payload, reason) VALUES ('q', 'of another event', '', '')`);
      assert.equal(await reported(), true);
      await force(`INSERT INTO resource_dead_letters (queue, message_id, payload, reason)
        SELECT 'q', encode(sha256(payload), 'hex'), payload, '' FROM outbox WHERE id = ${event.id}`);
      assert.equal(await reported(), false);
      known = undefined;
    });
    reports('9: a successful instance that does not run', async () => {
      await force(`DELETE FROM simulated_instances WHERE instance_id = ${instanceId}`);
      return `9 instance ${instanceId}`;
    });
    reports('9: an instance that runs for another user', async () => {
      await force(`UPDATE simulated_instances SET user_id = '${userId(9)}' WHERE instance_id = ${instanceId}`);
      return `9 instance ${instanceId}`;
    });
    reports('9: an instance without a log', async () => {
      await force(`INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
        VALUES ('orphan', 78, '${userId(9)}', 1, 1, 1, 0, 'x')`);
      return '9 instance 78';
    });
    reports('10: a paid order whose instance was reported', async () => {
      await sql('UPDATE orders SET status = 1, completed_at = NULL WHERE id = $1', completed);
      return `10 order ${completed}`;
    });
    reports('10: a completed order whose instance failed', async () => {
      await force(`UPDATE instance_logs SET status = 'FAILED' WHERE instance_id = ${instanceId}`);
      return `10 order ${completed}`;
    }, [9]);
    reports('10: an order completed before it was paid', async () => {
      await force(`ALTER TABLE orders DROP CONSTRAINT IF EXISTS orders_paid_before_completed;
        UPDATE orders SET completed_at = paid_at - interval '1 s' WHERE id = ${completed}`);
      return `10 order ${completed}`;
    });
    const goodsOrder = async (shipped: boolean) => {
      const { id: skuId } = await replica.sku(5n);
      const receiver = { name: 'a', phone: '13800000000', region: '310115', address: 'b' };
      const order = await replica.goodsOrders.create({
        ...{ userId: userId(1), lines: [{ skuId, quantity: 1 }], receiver, remark: '', requestId: '' },
        expectedAmountFen: undefined,
      });
      await replica.pay(order.id, `goods-${order.id}`);
      if (shipped) await replica.shipments.ship({ orderId: order.id, carrier: 'c', trackingNumbers: ['1'] });
      return order.id;
    };
    reports('10: goods that were completed without having been shipped', async () => {
      const id = await goodsOrder(false);
      await sql('UPDATE orders SET status = 3, completed_at = now() WHERE id = $1', id);
      return `10 order ${id}`;
    });
    reports('10: goods that were shipped without a shipment', async () => {
      const id = await goodsOrder(true);
      await force(`DELETE FROM shipments WHERE order_id = ${id}`);
      return `10 order ${id}`;
    });
    reports('11: a shipped order past its confirm deadline', async () => {
      const id = await goodsOrder(true);
      await sql(`UPDATE orders SET confirm_deadline = now() - interval '1 hour' WHERE id = $1`, id);
      return `11 order ${id}`;
    });
    reports('11: an unpaid order past its deadline', async () => {
      await sql("UPDATE orders SET pay_deadline = now() - interval '2 minutes' WHERE id = $1", pending);
      return `11 order ${pending}`;
    });
    reports('12: a paid order without a payment', async () => {
      await sql('DELETE FROM payments WHERE order_id = $1', completed);
      return `12 order ${completed}`;
    });
    const payment = async (id: bigint, orderId: bigint, outcome: string) => {
      const columns = '(id, order_id, provider, event_id, amount, outcome)';
      await sql(`INSERT INTO payments ${columns} VALUES ($1, $2, 'p', $3, 100, $4)`, id, orderId, `x${id}`, outcome);
      return `12 payment ${id}`;
    };
    reports('12: a payment whose order stays unpaid', () => payment(pending, pending, 'APPLIED'));
    reports('12: refunds of two wrong amounts that add up to the right sum', async () => {
      const [tooMuch, tooLittle] = [completed + 1n, completed + 2n];
      for (const [id, amount] of [
        [tooMuch, 150],
        [tooLittle, 50],
      ] as const) {
        await payment(id, completed, 'REFUNDED');
        await sql(
          `INSERT INTO refunds (id, order_id, user_id, payment_id, amount, reason, kind)
             SELECT $1, id, user_id, $1, $3, '', 'PAYMENT' FROM orders WHERE id = $2`,
          id,
          completed,
          amount,
        );
      }
      return `12 payment ${tooMuch}`;
    });
    reports('12: a rejected payment without a refund', () => payment(completed, completed, 'REFUNDED'));
  });
});
