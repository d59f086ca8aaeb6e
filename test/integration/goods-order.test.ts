import assert from 'node:assert/strict';
import { isSkuNotFound, isSkuNotOnSale, isStockInsufficient } from '../../gen/catalog/v1/errors.js';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { isPriceChanged, isRequestIdReused } from '../../gen/order/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateGoodsOrder } from '../../internal/biz/order/goods-order.js';
import type { OrderLine } from '../../internal/biz/order/goods-order-refusal.js';
import type { KratosError } from '../../internal/kratos/errors/error.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

describe('ordinary orders of goods', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;

  before(async () => {
    [replica, other] = await Promise.all([startReplica(servers), startReplica(servers)]);
  });
  after(() => Promise.all([replica?.close(), other?.close()]));
  afterEach(async () => {
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 5, 6, 7, 12, 13]), []);
  });

  let users = 0;
  const create = (lines: readonly OrderLine[], changes: Partial<CreateGoodsOrder> = {}, on = replica) =>
    on.goodsOrders.create({
      ...{ userId: formatUserId(String(++users)), lines, receiver: RECEIVER, remark: '', requestId: '' },
      ...{ expectedAmountFen: undefined, ...changes },
    });
  const refusal = async (attempt: Promise<unknown>, is: (err: unknown) => err is KratosError): Promise<KratosError> => {
    const err = await attempt.then(
      () => assert.fail('nothing was refused'),
      (cause: unknown) => cause,
    );
    assert.ok(is(err), String(err));
    return err;
  };

  it('holds the units of every line, keeps a snapshot of it, and deducts the units when it is paid', async () => {
    const skus = [await replica.sku(10n), await replica.sku(10n), await replica.sku(10n)];
    const lines = skus.map(({ id }, i) => ({ skuId: id, quantity: i + 1 }));
    const order = await create([...lines].reverse());
    assert.deepEqual([order.status, order.source, order.orderType, order.quantity], ['PENDING', 'NORMAL', 'GOODS', 6]);
    assert.deepEqual(
      order.items.map((i) => [i.skuId, i.quantity, i.skuName, i.priceFen]),
      skus.map((sku, i) => [sku.id, i + 1, sku.skuName, sku.priceFen]),
    );
    assert.equal(order.amountFen, order.totalFen + order.freightFen - order.promotionFen);
    assert.deepEqual(order.receiver, RECEIVER);
    assert.deepEqual(await Promise.all(skus.map((s) => replica.levelOf(s.id))), [
      [10n, 1n],
      [10n, 2n],
      [10n, 3n],
    ]);
    assert.equal((await replica.pay(order.id)).status, 'PAID');
    assert.deepEqual(await Promise.all(skus.map((s) => replica.levelOf(s.id))), [
      [9n, 0n],
      [8n, 0n],
      [7n, 0n],
    ]);
  });

  it('adds up the quantities of a sku that is named twice', async () => {
    const { id: skuId, priceFen } = await replica.sku(10n);
    const order = await create([
      { skuId, quantity: 2 },
      { skuId, quantity: 3 },
    ]);
    assert.deepEqual(
      order.items.map((i) => i.quantity),
      [5],
    );
    assert.equal(order.amountFen, 5n * priceFen);
    assert.deepEqual(await replica.levelOf(skuId), [10n, 5n]);
  });

  it('gives the units back when the order is cancelled, by its buyer or by the pay deadline', async () => {
    const { id: skuId } = await replica.sku(10n);
    const [mine, late] = [await create([{ skuId, quantity: 2 }]), await create([{ skuId, quantity: 3 }])];
    await replica.orders.cancel(mine.id, mine.userId, '');
    assert.deepEqual(await replica.levelOf(skuId), [10n, 3n]);
    await replica.rows(`UPDATE orders SET pay_deadline = now() - interval '1 s' WHERE id = $1`, late.id);
    await eventually('the sweeper cancels it', async () => {
      await replica.orders.sweepOverdue(100);
      return (await replica.orders.get(late.id, undefined)).closeReason === 'PAY_TIMEOUT';
    });
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
  });

  it('reserves the units of all skus or of none, and names each sku that falls short with what is left', async () => {
    const [much, little, none] = [await replica.sku(10n), await replica.sku(1n), await replica.sku(0n)];
    const lines = [much, little, none].map(({ id }) => ({ skuId: id, quantity: 2 }));
    const { metadata } = await refusal(create(lines), isStockInsufficient);
    assert.deepEqual(metadata, { [`sku_${little.id}`]: '1', [`sku_${none.id}`]: '0' });
    assert.deepEqual(await replica.levelOf(much.id), [10n, 0n]);
  });

  it('refuses requests that cannot become an order, naming the field', async () => {
    const { id: skuId } = await replica.sku(100_000n);
    const fieldsOf = async (attempt: Promise<unknown>, is: (err: unknown) => err is KratosError) =>
      (await refusal(attempt, is)).violations.map((v) => v.field);
    assert.deepEqual(await fieldsOf(create([]), isInvalidArgument), ['lines']);
    const many = Array.from({ length: 101 }, () => ({ skuId, quantity: 1 }));
    assert.deepEqual(await fieldsOf(create(many), isInvalidArgument), ['lines']);
    for (const quantity of [0, -1, 1.5, 10_001, Number.NaN]) {
      assert.deepEqual(await fieldsOf(create([{ skuId, quantity }]), isInvalidArgument), ['lines[0].quantity']);
    }
    const split = [
      { skuId, quantity: 9_999 },
      { skuId, quantity: 2 },
    ];
    assert.deepEqual(await fieldsOf(create(split), isInvalidArgument), ['lines[1].quantity']);
    const noReceiver = create([{ skuId, quantity: 1 }], { receiver: undefined });
    assert.deepEqual(await fieldsOf(noReceiver, isInvalidArgument), ['receiver']);
    const unknown = [
      { skuId, quantity: 1 },
      { skuId: 2n ** 62n, quantity: 1 },
    ];
    assert.deepEqual(await fieldsOf(create(unknown), isSkuNotFound), ['lines[1].sku_id']);
    const hidden = await replica.sku(5n);
    await replica.rows(`UPDATE spu SET publish_status = 0 WHERE id = $1`, hidden.spuId);
    assert.deepEqual(await fieldsOf(create([{ skuId: hidden.id, quantity: 1 }]), isSkuNotOnSale), ['lines[0].sku_id']);
    assert.deepEqual(await replica.levelOf(skuId), [100_000n, 0n]);
  });

  it('creates no order that costs anything but what the buyer was shown', async () => {
    const { id: skuId, priceFen } = await replica.sku(10n);
    const { metadata } = await refusal(
      create([{ skuId, quantity: 2 }], { expectedAmountFen: priceFen * 2n - 1n }),
      isPriceChanged,
    );
    assert.deepEqual(metadata, { amount_fen: String(priceFen * 2n) });
    assert.deepEqual(await replica.levelOf(skuId), [10n, 0n]);
    const order = await create([{ skuId, quantity: 2 }], { expectedAmountFen: priceFen * 2n });
    assert.equal(order.amountFen, priceFen * 2n);
  });

  it('creates one order for twenty calls with one request id, and refuses the id for anything else', async () => {
    const { id: skuId } = await replica.sku(50n);
    const userId = formatUserId('777001');
    const call = (on: SeckillReplica, changes: Partial<CreateGoodsOrder> = {}) =>
      create([{ skuId, quantity: 2 }], { userId, requestId: 'r-1', ...changes }, on);
    const all = await Promise.all(Array.from({ length: 20 }, (_, i) => call(i % 2 === 0 ? replica : other)));
    assert.equal(new Set(all.map((o) => o.id)).size, 1);
    assert.deepEqual(await replica.levelOf(skuId), [50n, 2n]);
    // Repeating it is no new price either.
    assert.equal((await call(replica, { expectedAmountFen: 1n })).id, all[0]?.id);
    await refusal(call(replica, { remark: 'another' }), isRequestIdReused);
    await refusal(call(replica, { receiver: { ...RECEIVER, name: 'x' } }), isRequestIdReused);
    await refusal(call(replica, { lines: [{ skuId, quantity: 3 }] }), isRequestIdReused);
  });

  it('sells no unit twice when two replicas create orders of one hot sku at once', async () => {
    const { id: skuId } = await replica.sku(100n);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 300 }, (_, i) => create([{ skuId, quantity: 1 + (i % 3) }], {}, i % 2 ? replica : other)),
    );
    const placed = outcomes.flatMap((o) => (o.status === 'fulfilled' ? [o.value] : []));
    for (const o of outcomes) if (o.status === 'rejected') assert.ok(isStockInsufficient(o.reason), String(o.reason));
    const units = placed.reduce((n, order) => n + order.quantity, 0);
    // Orders of one unit fit until nothing is left.
    assert.equal(units, 100);
    assert.deepEqual(await replica.levelOf(skuId), [100n, 100n]);
  });

  it('gives the last unit to one of two replicas, whatever else their orders want', async () => {
    for (let i = 0; i < 10; i++) {
      const [last, plenty] = [await replica.sku(1n), await replica.sku(100n)];
      const lines = [
        { skuId: last.id, quantity: 1 },
        { skuId: plenty.id, quantity: 2 },
      ];
      const outcomes = await Promise.allSettled([
        create(lines),
        create([...lines].reverse(), {}, other),
        create(lines.slice(0, 1), {}, i % 2 ? replica : other),
      ]);
      const placed = outcomes.flatMap((o) => (o.status === 'fulfilled' ? [o.value] : []));
      assert.equal(placed.length, 1);
      for (const o of outcomes) if (o.status === 'rejected') assert.ok(isStockInsufficient(o.reason), String(o.reason));
      assert.deepEqual(await replica.levelOf(last.id), [1n, 1n]);
      assert.deepEqual(await replica.levelOf(plenty.id), [100n, placed[0]?.items.length === 2 ? 2n : 0n]);
    }
  });

  it('applies either the payment, the cancellation or the timeout of an order, whose replicas race', async () => {
    const { id: skuId } = await replica.sku(1_000n);
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 20; i++) {
      const order = await create([{ skuId, quantity: 1 }]);
      if (i % 3 === 0) await replica.rows(`UPDATE orders SET pay_deadline = now() WHERE id = $1`, order.id);
      const [a, b] = i % 2 ? [replica, other] : [other, replica];
      await Promise.allSettled([
        a.orders.markPaid({
          ...{ orderId: order.id, userId: undefined, provider: 'p', eventId: `race-${order.id}`, amountFen: undefined },
        }),
        b.orders.cancel(order.id, order.userId, ''),
        a.orders.sweepOverdue(10),
      ]);
      const { status } = await replica.orders.get(order.id, undefined);
      outcomes.set(status, (outcomes.get(status) ?? 0) + 1);
    }
    const paid = outcomes.get('PAID') ?? 0;
    assert.equal(paid + (outcomes.get('CANCELLED') ?? 0), 20);
    // Paid units have left the stock, and those of cancelled orders are free again.
    assert.deepEqual(await replica.levelOf(skuId), [1_000n - BigInt(paid), 0n]);
  });

  it('keeps orders of two skus in opposite order from waiting for each other', async () => {
    const [a, b] = [await replica.sku(200n), await replica.sku(200n)];
    const lines = [
      { skuId: a.id, quantity: 1 },
      { skuId: b.id, quantity: 1 },
    ];
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => create(i % 2 ? lines : [...lines].reverse(), {}, i % 3 ? replica : other)),
    );
    assert.deepEqual(
      [await replica.levelOf(a.id), await replica.levelOf(b.id)],
      [
        [200n, 100n],
        [200n, 100n],
      ],
    );
  });

  it('fails one order of a batch alone when the database refuses it', async () => {
    const { id: skuId } = await replica.sku(50n);
    const poisoned = { ...RECEIVER, address: 'a NUL \u0000 that no JSON column stores' };
    const outcomes = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => create([{ skuId, quantity: 1 }], i === 7 ? { receiver: poisoned } : {})),
    );
    assert.deepEqual(
      outcomes.flatMap((o, i) => (o.status === 'rejected' ? [i] : [])),
      [7],
    );
    assert.deepEqual(await replica.levelOf(skuId), [50n, 19n]);
  });

  describe('the gate in Redis', () => {
    const key = (skuId: bigint) => `stock:sku:${skuId}`;
    const copyOf = async (skuId: bigint) => replica.redis.commands.hget(key(skuId), 'free');
    const adjust = async (skuId: bigint, delta: bigint) => {
      const { version } = await replica.catalog.getSku(skuId);
      await replica.catalog.adjustStock({ skuId, delta, version, requestId: `a-${delta}-${version}`, reason: '' });
    };

    it('follows every writer of the free units', async () => {
      const { id: skuId } = await replica.sku(10n);
      const is = (free: string) => eventually(`the gate holds ${free}`, async () => (await copyOf(skuId)) === free);
      const order = await create([{ skuId, quantity: 4 }]);
      await is('6');
      await replica.pay(order.id);
      await is('6');
      const cancelled = await create([{ skuId, quantity: 1 }]);
      await is('5');
      await replica.orders.cancel(cancelled.id, undefined, '');
      await is('6');
      await adjust(skuId, 5n);
      await is('11');
      await replica.openSaleOf(skuId, { total: 8n });
      await is('3');
      await replica.sales.close(skuId);
      await is('11');
    });

    it('turns buyers away from a sold-out sku without asking PostgreSQL', async () => {
      const { id: skuId } = await replica.sku(1n);
      await create([{ skuId, quantity: 1 }]);
      await eventually('the gate knows', async () => (await copyOf(skuId)) === '0');
      // It lasts as long as this test wants.
      assert.equal(await replica.redis.commands.persist(key(skuId)), 1);
      // Behind the gate's back: only PostgreSQL knows of these units.
      await replica.rows('UPDATE sku SET stock = stock + 5 WHERE id = $1', skuId);
      await refusal(create([{ skuId, quantity: 1 }]), isStockInsufficient);
      // Without the copy, PostgreSQL is asked again.
      await replica.redis.commands.del(key(skuId));
      await create([{ skuId, quantity: 1 }]);
      await replica.rows(
        `INSERT INTO stock_moves (sku_id, kind, request_id, units, stock_delta, lock_delta) VALUES ($1, 'ADJUST', 'x', 5, 5, 0)`,
        skuId,
      );
    });

    it('never sells what is not there, however wrong it is', async () => {
      const { id: skuId } = await replica.sku(2n);
      await replica.redis.commands.hset(key(skuId), { free: '1000', seq: '999999' });
      await refusal(create([{ skuId, quantity: 3 }]), isStockInsufficient);
      const { commands } = replica.redis;
      for (const breakKey of [() => commands.lpush(key(skuId), 'x'), () => commands.set(key(skuId), 'x')]) {
        await commands.del(key(skuId));
        await breakKey();
        const order = await create([{ skuId, quantity: 1 }]);
        await eventually('the key heals', async () => (await copyOf(skuId).catch(() => null)) === '1');
        await replica.orders.cancel(order.id, undefined, '');
      }
      assert.deepEqual(await replica.levelOf(skuId), [2n, 0n]);
    });

    it('keeps the newer of two values that arrive out of order', async () => {
      const { id: skuId } = await replica.sku(1n);
      replica.stockGate.publish([{ skuId, free: 7n, seq: 2n ** 60n + 1n }]);
      replica.stockGate.publish([{ skuId, free: 9n, seq: 2n ** 60n }]);
      await eventually('both arrived', async () => (await copyOf(skuId)) !== null);
      assert.equal(await copyOf(skuId), '7');
    });
  });
});
