import assert from 'node:assert/strict';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { SALE_INVARIANTS, violationsOf } from '../support/audit.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { SeckillReplica } from '../support/seckill.js';
import { type SuiteServers, useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

/*
 * Who closes a sale tells PostgreSQL first, then Redis. If Redis cannot be told, other replicas know the sale as open for
 * up to a second, as long as they remember what they read. Purchases of this second are honoured like earlier ones: their
 * buyers see an order, and no unit is sold twice.
 */
describe('A sale that is closed while its closer cannot reach Redis', () => {
  const servers = useServers('postgres', 'redis');
  let proxy: FaultProxy;
  let closer: SeckillReplica;
  let seller: SeckillReplica;

  before(async () => {
    proxy = await FaultProxy.open(servers.redisUrl);
    const cut: SuiteServers = Object.create(servers, { redisUrl: { value: proxy.url(servers.redisUrl) } });
    closer = new SeckillReplica(cut, 2_000);
    seller = new SeckillReplica(servers);
    await closer.start();
    await seller.start();
  });
  afterEach(() => {
    proxy.refuse = false;
  });
  after(async () => {
    await closer?.close();
    await seller?.close();
    await proxy?.close();
  });

  /** Closes it without Redis, and goes on buying until a buyer is told of the end. @returns the purchases */
  async function closeAndBuy(itemId: bigint): Promise<string[]> {
    const first = await seller.buy(itemId, 1);
    assert.ok(first.kind === 'QUEUED');
    const ids = [first.seckillId];
    proxy.refuse = true;
    proxy.reset();
    assert.equal((await closer.sales.close(itemId)).sale.status, 'CLOSED');
    let user = 1;
    await eventually('a buyer is told of the end', async () => {
      const outcome = await seller.buy(itemId, ++user);
      if (outcome.kind === 'QUEUED') ids.push(outcome.seckillId);
      return outcome.kind === 'ENDED';
    });
    const closed = await seller.redis.commands.hget(saleKeys('', itemId).meta, 'closed');
    assert.equal(closed, null, 'Redis was not told: PostgreSQL ended the sale');
    assert.equal((await seller.buy(itemId, ++user)).kind, 'ENDED');
    return ids;
  }

  async function settle(itemId: bigint): Promise<void> {
    const consumer = seller.consumer('seller');
    await consumer.start();
    await eventually('the stream is empty', () => seller.idle(itemId));
    await consumer.stop(AbortSignal.timeout(5_000));
  }

  it('admits no buyer once PostgreSQL was asked again, and every admitted purchase becomes an order', async () => {
    const { itemId } = await seller.openSale({ total: 10_000n });
    const ids = await closeAndBuy(itemId);
    await settle(itemId);
    for (const [i, id] of ids.entries()) {
      const userId = (
        await seller.rows<{ user_id: string }>(
          'SELECT user_id FROM stream_inbox WHERE item_id = $1 ORDER BY stream_id OFFSET $2 LIMIT 1',
          itemId,
          i,
        )
      )[0]!.user_id;
      assert.equal((await seller.seckill.getPurchase(id, userId)).status, 'PAID');
    }
    const [orders] = await seller.rows<{ n: bigint }>('SELECT count(*) AS n FROM orders WHERE product_id = $1', itemId);
    assert.equal(Number(orders?.n), ids.length);
    proxy.refuse = false;
    await eventually('Redis is told', async () => {
      await closer.schedule.reconcile();
      return (await seller.redis.commands.hget(saleKeys('', itemId).meta, 'closed')) === '1';
    });
    assert.deepEqual(await violationsOf(seller.db, seller.redis, [...SALE_INVARIANTS, 16]), []);
  });

  it('returns no unit to its sku before Redis has ended the admission, so that the last purchases find theirs', async () => {
    const sku = await seller.sku(10_000n);
    await seller.openSaleOf(sku.id, { total: 10_000n });
    const ids = await closeAndBuy(sku.id);
    const state = async () => {
      const [row] = await seller.rows<{ released: boolean; returned: bigint; lock: bigint; stock: bigint }>(
        `SELECT s.released_at IS NOT NULL AS released, s.returned, k.lock_stock AS lock, k.stock
          FROM sales s JOIN sku k ON k.id = s.item_id WHERE s.item_id = $1`,
        sku.id,
      );
      return row!;
    };
    assert.deepEqual(await state(), { released: false, returned: 0n, lock: 10_000n, stock: 10_000n });
    await settle(sku.id);
    proxy.refuse = false;
    await eventually('the rest is returned', async () => {
      await closer.schedule.reconcile();
      return (await state()).released;
    });
    const sold = BigInt(ids.length);
    assert.deepEqual(await state(), { released: true, returned: 10_000n - sold, lock: 0n, stock: 10_000n - sold });
    assert.deepEqual(await violationsOf(seller.db, seller.redis, [...SALE_INVARIANTS, 13, 16]), []);
  });
});
