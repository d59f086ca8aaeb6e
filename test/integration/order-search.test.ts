import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { type OrderSearchFilter, OrderSearchUsecase } from '../../internal/biz/order/order-search.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { PgOrderSearchRepo } from '../../internal/data/postgres/order-search.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

describe('what operators ask about orders', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let searches: OrderSearchUsecase;
  let goods: Order[];
  let instances: Order[];
  let sold: Order;
  let saleId: bigint;

  const userId = (n: number) => formatUserId(String(n));

  before(async () => {
    replica = await startReplica(servers);
    searches = new OrderSearchUsecase(new PgOrderSearchRepo(replica.db));
    const [a, b] = [await replica.sku(100n), await replica.sku(100n)];
    const plan = await replica.plan();
    goods = [];
    instances = [];
    for (let i = 0; i < 5; i++) {
      const lines = [a, b].slice(0, 1 + (i % 2)).map(({ id: skuId }) => ({ skuId, quantity: 1 }));
      goods.push(
        await replica.goodsOrders.create({
          ...{
            userId: userId(i % 2),
            lines,
            receiver: RECEIVER,
            remark: '',
            requestId: '',
            expectedAmountFen: undefined,
          },
        }),
      );
      instances.push(
        await replica.orders.create({
          ...{ userId: userId(i % 2), productId: plan.id, quantity: 1, requestId: '', remark: '' },
        }),
      );
    }
    await replica.orders.cancel(goods[0]!.id, undefined, '');
    const { id: itemId } = await replica.sku(5n);
    await replica.openSaleOf(itemId, { total: 5n });
    await replica.buy(itemId, 9);
    await replica.settle(itemId, await replica.deliveries(itemId));
    ({ id: saleId } = (await replica.sales.get(itemId)).sale);
    sold = (await replica.orders.list(userId(9), {}, { offset: 0, limit: 1 })).items[0]!;
  });
  after(() => replica?.close());

  const find = async (filter: OrderSearchFilter) => {
    const { items, nextPageToken } = await searches.search(filter, 100, '');
    assert.equal(nextPageToken, '');
    return items.map((o) => o.id);
  };
  const idsOf = (...orders: readonly Order[]) => orders.map((o) => o.id).sort((a, b) => (a < b ? 1 : -1));

  it('finds orders of all users by each filter, newest first', async () => {
    assert.deepEqual(await find({}), idsOf(...goods, ...instances, sold));
    assert.deepEqual(await find({ status: 'CANCELLED' }), idsOf(goods[0]!));
    assert.deepEqual(await find({ orderType: 'INSTANCE' }), idsOf(...instances));
    assert.deepEqual(await find({ source: 'SECKILL' }), idsOf(sold));
    assert.deepEqual(await find({ saleId }), idsOf(sold));
    assert.deepEqual(await find({ userId: userId(1) }), idsOf(goods[1]!, goods[3]!, instances[1]!, instances[3]!));
    assert.deepEqual(await find({ skuId: goods[1]!.items[1]!.skuId }), idsOf(goods[1]!, goods[3]!));
    assert.deepEqual(await find({ skuId: goods[0]!.items[0]!.skuId, status: 'PENDING' }), idsOf(...goods.slice(1)));
    assert.deepEqual(await find({ orderType: 'CONTENT' }), []);
  });

  it('finds orders of a period', async () => {
    const at = instances[2]!.createdAt;
    const all = [...goods, ...instances, sold];
    assert.deepEqual(await find({ createdFrom: at }), idsOf(...all.filter((o) => o.createdAt >= at)));
    assert.deepEqual(await find({ createdBefore: at }), idsOf(...all.filter((o) => o.createdAt < at)));
    await assert.rejects(
      searches.search({ createdFrom: at, createdBefore: at }, 0, ''),
      (err) => isInvalidArgument(err) && err.violations[0]?.field === 'created_before',
    );
  });

  it('goes from page to page without repeating or missing an order while new ones are created', async () => {
    const filter = { orderType: 'GOODS' } as const;
    const wanted = await find(filter);
    const seen: bigint[] = [];
    let token = '';
    do {
      const page = await searches.search(filter, 2, token);
      seen.push(...page.items.map((o) => o.id));
      token = page.nextPageToken;
      const lines = [{ skuId: goods[0]!.items[0]!.skuId, quantity: 1 }];
      await replica.goodsOrders.create({
        ...{ userId: userId(50), lines, receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined },
      });
    } while (token !== '');
    assert.deepEqual(seen, wanted);
    const { nextPageToken } = await searches.search(filter, 2, '');
    await assert.rejects(searches.search({ ...filter, status: 'PAID' }, 2, nextPageToken), isInvalidArgument);
  });

  it("goes through a user's own list by page tokens, and refuses one together with an offset", async () => {
    const all = await replica.orders.list(userId(1), {}, { offset: 0, limit: 100 });
    assert.deepEqual([all.items.length, all.nextPageToken], [4, '']);
    const first = await replica.orders.list(userId(1), {}, { offset: 0, limit: 3 });
    const second = await replica.orders.list(userId(1), {}, { offset: 0, limit: 3, pageToken: first.nextPageToken });
    assert.deepEqual([...first.items, ...second.items], all.items);
    assert.deepEqual([second.total, second.nextPageToken], [4n, '']);
    for (const [user, page] of [
      [2, { offset: 0, limit: 3, pageToken: first.nextPageToken }],
      [1, { offset: 1, limit: 3, pageToken: first.nextPageToken }],
    ] as const) {
      await assert.rejects(replica.orders.list(userId(user), {}, page), isInvalidArgument);
    }
  });

  it('counts orders by day, status and type, on the days of the local time', async () => {
    await replica.rows(`UPDATE orders SET created_at = '2026-03-01T16:30:00Z' WHERE id = ANY ($1)`, [
      instances[0]!.id,
      instances[1]!.id,
    ]);
    const [from, before] = [new Date('2026-03-01T00:00:00Z'), new Date('2026-03-03T00:00:00Z')];
    const rows = await searches.stats({ from, before, utcOffsetMinutes: 480 });
    const amountFen = instances[0]!.amountFen + instances[1]!.amountFen;
    assert.deepEqual(rows, [{ day: '2026-03-02', status: 'PENDING', orderType: 'INSTANCE', orders: 2n, amountFen }]);
    const [utc] = await searches.stats({ from, before, utcOffsetMinutes: 0 });
    assert.equal(utc?.day, '2026-03-01');
    const now = new Date();
    const today = await searches.stats({
      ...{ from: new Date(now.getTime() - 86_400_000), before: new Date(now.getTime() + 1_000), utcOffsetMinutes: 0 },
    });
    const count = (status: string) =>
      today.filter((r) => r.orderType === 'GOODS' && r.status === status).reduce((n, r) => n + r.orders, 0n);
    assert.deepEqual([count('CANCELLED'), count('PAID')], [1n, 1n]);
    for (const end of [from, new Date(from.getTime() + 93 * 86_400_000)]) {
      await assert.rejects(searches.stats({ from, before: end, utcOffsetMinutes: 0 }), isInvalidArgument);
    }
  });
});
