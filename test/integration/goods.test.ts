import assert from 'node:assert/strict';
import pg from 'pg';
import { isSkuVersionConflict, isStockInsufficient, isStockRequestReused } from '../../gen/catalog/v1/errors.js';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isOrderCancelled } from '../../gen/order/v1/errors.js';
import { isSaleNotFound, isSaleUnavailable, saleUnavailable } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import type { PurchaseOutcome } from '../../internal/biz/seckill/seckill.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const PRICE_FEN = 100n;

describe('flash sales of goods', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
  });
  after(() => replica?.close());
  afterEach(() => replica.stopConsumer());

  /** Settles all entries of the item. */
  const settle = async (itemId: bigint) => {
    await replica.startConsumer();
    await eventually('the stream is empty', () => replica.idle(itemId));
  };
  const userId = (n: number) => formatUserId(String(n));
  const kindOf = async (itemId: bigint, user: number, quantity: number) =>
    (await replica.buy(itemId, user, '', '', quantity)).kind;
  const idOf = (outcome: PurchaseOutcome) => {
    assert.ok(outcome.kind === 'QUEUED');
    return outcome.seckillId;
  };
  /** Opens a sale of some units of a new sku. */
  const openSale = async (stock: bigint, change: Partial<CreateSale>) => {
    const { id } = await replica.sku(stock);
    await replica.openSaleOf(id, { priceFen: PRICE_FEN, defaultLimit: 3, ...change });
    return id;
  };
  const ordersOf = (skuId: bigint) =>
    replica.rows<{ id: bigint; user_id: string; status: number; quantity: number; amount: bigint }>(
      'SELECT id, user_id, status, quantity, amount FROM orders WHERE sku_id = $1 ORDER BY id',
      skuId,
    );
  const overdue = (skuId: bigint) =>
    replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE sku_id = $1 AND status = 0`, skuId);
  const holds = async () =>
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 2, 3, 4, 5, 6, 7, 12, 13]), []);
  const adjust = (skuId: bigint, delta: bigint, version: bigint, requestId: string) =>
    replica.catalog.adjustStock({ skuId, delta, version, requestId, reason: '' });

  describe('the stock', () => {
    it('applies one of two adjustments of the same version, and each request once', async () => {
      const { id, version } = await replica.sku(10n);
      const both = await Promise.allSettled([adjust(id, 5n, version, 'a'), adjust(id, -3n, version, 'b')]);
      const [lost] = both.filter((r) => r.status === 'rejected');
      assert.ok(isSkuVersionConflict(lost?.reason), String(lost?.reason));
      const now = await replica.catalog.getSku(id);
      assert.ok(now.stock === 15n || now.stock === 7n);
      const same = await Promise.all(Array.from({ length: 10 }, () => adjust(id, 1n, now.version, 'same')));
      for (const sku of same) assert.deepEqual([sku.stock, sku.version], [now.stock + 1n, now.version + 1n]);
      await assert.rejects(adjust(id, 2n, now.version + 1n, 'same'), isStockRequestReused);
      await holds();
    });

    it('gives free units either to a sale or to an adjustment, never to both', async () => {
      const outcomes = await Promise.all(
        Array.from({ length: 10 }, async () => {
          const { id, version } = await replica.sku(10n);
          const [held, taken] = await Promise.allSettled([
            replica.openSaleOf(id, { total: 6n }),
            adjust(id, -5n, version, 'r'),
          ]);
          if (held.status === 'rejected') assert.ok(isInvalidArgument(held.reason), String(held.reason));
          if (taken.status === 'rejected') assert.ok(isStockInsufficient(taken.reason), String(taken.reason));
          return [held.status, taken.status].filter((s) => s === 'fulfilled').length;
        }),
      );
      assert.deepEqual(
        outcomes,
        Array.from({ length: 10 }, () => 1),
      );
      await holds();
    });

    it('rejects a sale of more units than are free and reports the field', async () => {
      const sku = await replica.sku(10n);
      await assert.rejects(replica.openSaleOf(sku.id, { total: 11n }), (err) => {
        assert.ok(isInvalidArgument(err));
        assert.deepEqual(err.violations, [
          { field: 'total', description: 'must be at most 10: 10 units of the sku are free' },
        ]);
        return true;
      });
      await assert.rejects(replica.sales.get(sku.id), isSaleNotFound);
      assert.deepEqual(await replica.levelOf(sku.id), [10n, 0n]);
      await replica.openSaleOf(sku.id, { total: 10n });
      assert.deepEqual(await replica.levelOf(sku.id), [10n, 10n]);
      await holds();
    });
  });

  it('sells several prepaid units per order within the limit of each buyer', async () => {
    const itemId = await openSale(10n, { total: 8n });
    assert.deepEqual(await replica.levelOf(itemId), [10n, 8n]);
    const first = idOf(await replica.buy(itemId, 1, 'r', '', 1));
    assert.equal(idOf(await replica.buy(itemId, 1, 'r', '', 1)), first);
    const second = idOf(await replica.buy(itemId, 1, '', '', 2));
    assert.equal(await kindOf(itemId, 1, 1), 'LIMIT_REACHED');
    assert.equal(await kindOf(itemId, 2, 4), 'LIMIT_REACHED');
    assert.equal(await kindOf(itemId, 3, 3), 'QUEUED');
    assert.equal(await kindOf(itemId, 4, 3), 'SOLD_OUT');
    const batch = await replica.seckill.purchaseAll(
      itemId,
      [5, 6].map((user) => ({ userId: userId(user), quantity: 2, requestId: '', traceparent: '' })),
    );
    assert.deepEqual(
      batch.map((b) => b.kind),
      ['QUEUED', 'SOLD_OUT'],
    );
    await settle(itemId);
    const orders = await ordersOf(itemId);
    assert.deepEqual(
      orders.map((o) => [o.user_id, o.status, o.quantity, o.amount]),
      [
        [userId(1), 1, 1, 100n],
        [userId(1), 1, 2, 200n],
        [userId(3), 1, 3, 300n],
        [userId(5), 1, 2, 200n],
      ],
    );
    assert.deepEqual(await replica.levelOf(itemId), [2n, 0n]);
    assert.equal((await replica.seckill.getPurchase(second, userId(1))).quantity, 2);
    const { items } = await replica.orders.list(userId(1), { orderType: 'GOODS' }, { offset: 0, limit: 10 });
    assert.deepEqual(
      items.map((o) => [o.skuId, o.productId, o.productName, o.quantity, o.priceFen, o.instanceId]),
      [2, 1].map((quantity) => [itemId, undefined, 'phone, black', quantity, PRICE_FEN, undefined]),
    );
    const lines = await replica.rows<object>(
      `SELECT i.sku_id, spu_name, sku_name, sku_image, specs, i.price, i.quantity, total_price
       FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.sku_id = $1 AND o.user_id = $2`,
      ...[itemId, userId(3)],
    );
    assert.deepEqual(lines, [
      {
        ...{ sku_id: itemId, spu_name: 'phone', sku_name: 'phone, black', sku_image: 'https://img.test/1' },
        ...{ specs: { color: 'black' }, price: PRICE_FEN, quantity: 3, total_price: 300n },
      },
    ]);
    const asked = await replica.rows(
      'SELECT FROM instance_requests r JOIN orders o ON o.id = r.order_id WHERE o.sku_id = $1',
      itemId,
    );
    assert.equal(asked.length, 0);
    await holds();
  });

  it('sells a sku whose name has the maximum length', async () => {
    const name = '长'.repeat(255);
    const { id: itemId } = await replica.sku(1n, name);
    await replica.openSaleOf(itemId, { total: 1n });
    assert.equal((await replica.sales.get(itemId)).sale.name, '长'.repeat(128));
    assert.equal(await kindOf(itemId, 1, 1), 'QUEUED');
    await settle(itemId);
    const { items } = await replica.orders.list(userId(1), {}, { offset: 0, limit: 1 });
    assert.equal(items[0]?.productName, name);
  });

  it('returns unpaid units to the sale and to the limit of the buyer', async () => {
    const itemId = await openSale(5n, { total: 5n, payMode: 'PAY_LATER' });
    assert.deepEqual([await kindOf(itemId, 1, 3), await kindOf(itemId, 2, 2)], ['QUEUED', 'QUEUED']);
    assert.equal(await kindOf(itemId, 3, 1), 'SOLD_OUT');
    await settle(itemId);
    // Unpaid units are locked by the sale or by the order. For the sku that is the same.
    assert.deepEqual(await replica.levelOf(itemId), [5n, 5n]);
    await holds();
    const [late, kept] = await ordersOf(itemId);
    await replica.pay(kept!.id, 'kept');
    assert.deepEqual(await replica.levelOf(itemId), [3n, 3n]);
    await overdue(itemId);
    await replica.orders.sweepOverdue(10);
    assert.deepEqual(await replica.levelOf(itemId), [3n, 3n]);
    await holds();
    await assert.rejects(replica.pay(late!.id, 'late'), isOrderCancelled);
    await replica.relayReturns();
    assert.equal((await replica.sales.get(itemId)).remaining, 3n);
    await eventually('another user gets the units', async () => (await kindOf(itemId, 3, 1)) === 'QUEUED');
    assert.equal(await kindOf(itemId, 2, 2), 'LIMIT_REACHED');
    assert.equal(await kindOf(itemId, 1, 2), 'QUEUED');
    await settle(itemId);
    assert.equal((await replica.sales.get(itemId)).sale.sold, 5n);
    assert.deepEqual(
      (await ordersOf(itemId)).map((o) => [o.status, o.quantity]),
      [
        [2, 3],
        [1, 2],
        [0, 1],
        [0, 2],
      ],
    );
    await holds();
  });

  it('applies either the payment or the timeout of every order, never both', async () => {
    const itemId = await openSale(60n, { total: 60n, payMode: 'PAY_LATER' });
    await Promise.all(Array.from({ length: 30 }, (_, i) => replica.buy(itemId, i, '', '', 1 + (i % 2))));
    await settle(itemId);
    const orders = await ordersOf(itemId);
    assert.equal(orders.length, 30);
    await overdue(itemId);
    const sweep = async () => {
      while ((await replica.orders.sweepOverdue(3)).cancelled > 0);
    };
    const paid = orders.map((o) =>
      replica.pay(o.id, `race-${o.id}`).then(
        () => true,
        (err) => !isOrderCancelled(err),
      ),
    );
    await Promise.all([...paid, sweep(), sweep()]);
    const after = await ordersOf(itemId);
    const units = (status: number) => after.filter((o) => o.status === status).reduce((n, o) => n + o.quantity, 0);
    assert.equal(units(1) + units(2), 45);
    assert.deepEqual(
      await Promise.all(paid),
      after.map((o) => o.status === 1),
    );
    const left = BigInt(60 - units(1));
    assert.deepEqual(await replica.levelOf(itemId), [left, left]);
    await replica.relayReturns();
    assert.equal((await replica.sales.get(itemId)).remaining, left);
    await holds();
  });

  describe('at its end', () => {
    it('returns unsold units at once if no entry is waiting', async () => {
      const { id } = await replica.sku(4n);
      const never = { itemId: id, name: '', startsAt: undefined, endsAt: undefined, total: 4n, priceFen: undefined };
      await replica.sales.create({ ...never, payMode: 'PREPAID', payTimeoutMs: undefined, defaultLimit: 1 });
      assert.deepEqual(await replica.levelOf(id), [4n, 4n]);
      await replica.sales.close(id);
      assert.deepEqual(await replica.levelOf(id), [4n, 0n]);

      const itemId = await openSale(10n, { total: 6n });
      await replica.buy(itemId, 1, '', '', 2);
      await settle(itemId);
      await Promise.all([1, 2, 3].map(() => replica.sales.close(itemId)));
      assert.deepEqual(await replica.levelOf(itemId), [8n, 0n]);
      assert.equal((await replica.sales.get(itemId)).sale.returned, 4n);
      await replica.openSaleOf(itemId, { total: 8n });
      assert.deepEqual(await replica.levelOf(itemId), [8n, 8n]);
      await holds();
    });

    it('keeps admitted units until they have become orders, and returns later cancellations to the sku', async () => {
      const itemId = await openSale(10n, { total: 6n, payMode: 'PAY_LATER' });
      await replica.buy(itemId, 1, '', '', 2);
      await replica.buy(itemId, 2, '', '', 1);
      await replica.sales.close(itemId);
      assert.deepEqual(await replica.levelOf(itemId), [10n, 6n]);
      assert.equal((await replica.schedule.reconcile()).released, 0);
      await settle(itemId);
      const kept = await Promise.all([replica.schedule.reconcile(), replica.schedule.reconcile()]);
      assert.deepEqual(
        kept.flatMap((k) => k.failures),
        [],
      );
      assert.equal(
        kept.reduce((n, k) => n + k.released, 0),
        1,
      );
      assert.deepEqual(await replica.levelOf(itemId), [10n, 3n]);
      const [two, one] = await ordersOf(itemId);
      await replica.orders.cancel(two!.id, two!.user_id, '');
      assert.deepEqual(await replica.levelOf(itemId), [10n, 1n]);
      await replica.pay(one!.id, 'after');
      assert.deepEqual(await replica.levelOf(itemId), [9n, 0n]);
      const { sale } = await replica.sales.get(itemId);
      assert.deepEqual([sale.sold, sale.returned], [1n, 5n]);
      assert.equal(await replica.relayReturns(), 0);
      await holds();
    });

    it('keeps its units while Redis is unavailable and returns them afterwards', async () => {
      const itemId = await openSale(4n, { total: 3n });
      const { admission } = replica;
      admission.close = () => Promise.reject(saleUnavailable('away'));
      try {
        assert.equal((await replica.sales.close(itemId)).sale.status, 'CLOSED');
        const { released, failures } = await replica.schedule.reconcile();
        assert.equal(released, 0);
        assert.ok(failures.length > 0 && failures.every((f) => isSaleUnavailable(f.cause)));
        assert.deepEqual(await replica.levelOf(itemId), [4n, 3n]);
        assert.equal((await replica.sales.get(itemId)).sale.status, 'CLOSED');
      } finally {
        Reflect.deleteProperty(admission, 'close');
      }
      assert.equal((await replica.schedule.reconcile()).released, 1);
      assert.deepEqual(await replica.levelOf(itemId), [4n, 0n]);
      await eventually('the sale admits no purchase', async () => (await kindOf(itemId, 1, 1)) === 'ENDED');
      await holds();
    });

    it('rejects all entries after its units were returned, even if an old Redis admits them', async () => {
      const itemId = await openSale(3n, { total: 3n });
      const { sale } = await replica.sales.get(itemId);
      await replica.sales.close(itemId);
      const late = await replica.redis.commands.xadd(
        saleKeys('', itemId).stream,
        ...['*', 'uid', '1', 'qty', '1', 'epoch', String(sale.epoch), 'req_id', String((sale.epoch << 32n) + 9n)],
      );
      await settle(itemId);
      const record = await replica.seckill.getPurchase(`${itemId}-${late}`, userId(1));
      assert.deepEqual([record.status, record.reason], ['REJECTED', 'SOLD_OUT']);
      assert.deepEqual(await replica.levelOf(itemId), [3n, 0n]);
      await holds();
    });
  });

  it('settles entries of other clients while a sale is open, and rejects them without one', async () => {
    const sku = await replica.sku(5n);
    const add = (...fields: string[]) => replica.redis.commands.xadd(saleKeys('', sku.id).stream, '*', ...fields);
    const alone = await add('uid', '1', 'qty', '2');
    await settle(sku.id);
    await replica.openSaleOf(sku.id, { total: 5n, defaultLimit: 3 });
    const during = await add('uid', '1', 'qty', '2');
    const over = await add('uid', '1', 'qty', '2');
    await settle(sku.id);
    const rows = await replica.rows<{ stream_id: string; outcome: string; reason: string }>(
      'SELECT stream_id, outcome, reason FROM stream_inbox WHERE item_id = $1 ORDER BY created_at, stream_id',
      sku.id,
    );
    assert.deepEqual(rows, [
      { stream_id: alone, outcome: 'REJECTED', reason: 'NO_SALE' },
      { stream_id: during, outcome: 'ORDER', reason: '' },
      { stream_id: over, outcome: 'REJECTED', reason: 'LIMIT_REACHED' },
    ]);
    assert.deepEqual(await replica.levelOf(sku.id), [3n, 3n]);
    const spu = (await replica.catalog.getSpu(sku.spuId, 'operator')).spu;
    await replica.catalog.updateSpu(spu.id, spu.version, { publishStatus: 'UNPUBLISHED' });
    await add('uid', '2');
    await settle(sku.id);
    const [dead] = await replica.rows<{ reason: string }>(
      "SELECT reason FROM stream_inbox WHERE item_id = $1 AND outcome = 'DEAD'",
      sku.id,
    );
    assert.equal(dead?.reason, 'GOODS_UNPUBLISHED');
    await holds();
  });

  it('counts quantities when a sale is reloaded, and settles a redelivered entry once', async () => {
    const itemId = await openSale(10n, { total: 7n });
    await replica.buy(itemId, 1, '', '', 3);
    await settle(itemId);
    await replica.stopConsumer();
    await replica.buy(itemId, 2, '', '', 2);
    const raw = await replica.redis.commands.xrange(saleKeys('', itemId).stream, '-', '+');
    const deliveries = raw.map(([streamId, flat]) => ({
      streamId,
      fields: new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, flat[2 * i + 1]!])),
      deliveries: 1,
    }));
    await replica.redis.commands.del(saleKeys('', itemId).meta, saleKeys('', itemId).buyers);
    assert.equal((await replica.sales.open(itemId)).remaining, 2n);
    await replica.settle(itemId, deliveries);
    await replica.settle(itemId, deliveries);
    await eventually('the new epoch is loaded', async () => (await kindOf(itemId, 2, 2)) === 'LIMIT_REACHED');
    await settle(itemId);
    assert.equal((await ordersOf(itemId)).length, 2);
    assert.deepEqual(await replica.levelOf(itemId), [5n, 2n]);
    await holds();
  });

  describe('the audit', () => {
    let itemId: bigint;
    let owner: pg.Pool;
    before(async () => {
      owner = new pg.Pool({ connectionString: servers.postgresUrl, max: 1 });
    });
    after(() => owner?.end());

    beforeEach(async () => {
      itemId = await openSale(10n, { total: 6n, payMode: 'PAY_LATER' });
      await replica.buy(itemId, 1, '', '', 2);
      await replica.buy(itemId, 2, '', '', 1);
      await settle(itemId);
      await replica.pay((await ordersOf(itemId))[0]!.id, `audit-${itemId}`);
      await holds();
    });
    /** `repair` undoes `damage`, so that the next test starts without violations. */
    const finds = (what: string, damage: string, repair: string, wanted: () => Promise<readonly string[]>) => {
      it(`reports ${what}`, async () => {
        await owner.query(damage.replaceAll('$sku', String(itemId)));
        const found = await violationsOf(replica.db, replica.redis, [13]);
        assert.deepEqual(
          found.map((o) => o.slice(0, o.indexOf(':'))),
          (await wanted()).map((id) => `13 ${id}`),
          found.join('\n'),
        );
        await owner.query(repair.replaceAll('$sku', String(itemId)));
        await holds();
      });
    };
    const sku = async () => [`sku ${itemId}`];
    const unpaid = async () => `order ${(await ordersOf(itemId))[1]!.id}, sku ${itemId}`;

    finds(
      'stock without a ledger row',
      'UPDATE sku SET stock = stock + 1 WHERE id = $sku',
      'UPDATE sku SET stock = stock - 1 WHERE id = $sku',
      sku,
    );
    finds(
      'locked units without a sale or an order',
      `UPDATE sku SET lock_stock = lock_stock + 1 WHERE id = $sku;
       INSERT INTO stock_moves (sku_id, sale_id, kind, units, stock_delta, lock_delta) VALUES ($sku, -$sku, 'SALE_HOLD', 1, 0, 1)`,
      `UPDATE sku SET lock_stock = lock_stock - 1 WHERE id = $sku; DELETE FROM stock_moves WHERE sale_id = -$sku`,
      sku,
    );
    finds(
      'an unpaid order without a HOLD',
      "UPDATE stock_moves SET kind = 'RETURN' WHERE sku_id = $sku AND kind = 'HOLD' AND units = 1",
      "UPDATE stock_moves SET kind = 'HOLD' WHERE sku_id = $sku AND kind = 'RETURN' AND units = 1",
      async () => [await unpaid()],
    );
    finds(
      'a paid order without a DEDUCT',
      'UPDATE orders SET status = 1, paid_at = now() WHERE sku_id = $sku AND status = 0',
      'UPDATE orders SET status = 0, paid_at = NULL WHERE sku_id = $sku AND user_id = (SELECT user_id FROM orders WHERE sku_id = $sku AND quantity = 1)',
      async () => [...(await sku()), await unpaid()],
    );
    finds(
      'a ledger row without its order',
      `INSERT INTO stock_moves (sku_id, order_id, kind, units, stock_delta, lock_delta) VALUES ($sku, -$sku, 'HOLD', 1, 0, 0)`,
      'DELETE FROM stock_moves WHERE order_id = -$sku',
      async () => [`order -${itemId}, sku ${itemId}`],
    );
  });
});
