import assert from 'node:assert/strict';
import { isPurchaseTokenInvalid, isSaleNotFound, isSaleVersionConflict } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import type { EntryDecision } from '../../internal/biz/seckill/waiting-room.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { replicaOn, type SeckillReplica, TOKEN_TTL_MS } from '../support/seckill.js';
import type { SuiteServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

/** @param redis where Redis is, once the hooks of the enclosing suite have run */
export function purchaseTokenContract(name: string, servers: SuiteServers, redis: () => RedisPlace): void {
  describe(`Purchase tokens ${name}`, () => {
    let replica: SeckillReplica;

    before(async () => {
      replica = replicaOn(servers, redis());
      await replica.start();
      await replica.startConsumer();
    });
    after(() => replica?.close());

    const open = async (change: Partial<CreateSale> = {}) => {
      const { itemId } = await replica.openSale({ requireToken: true, defaultLimit: 5, ...change });
      return itemId;
    };
    const enter = (itemId: bigint, user: number) => replica.waitingRoom.enter(itemId, formatUserId(String(user)));
    const tokenOf = async (itemId: bigint, user: number): Promise<string> => ready(await enter(itemId, user)).token;
    const ready = (entry: EntryDecision) => {
      assert.ok(entry.kind === 'READY', entry.kind);
      return entry;
    };
    const outcome = async (...args: Parameters<SeckillReplica['buy']>) => (await replica.buy(...args)).kind;

    it('exist only after the sale has opened', async () => {
      const startsAt = new Date(Date.now() + 3_600_000);
      const plan = await replica.plan();
      const sale = { itemId: plan.id, name: '', startsAt, endsAt: undefined, total: 1n, priceFen: 1n } as const;
      await replica.sales.create({
        ...sale,
        payMode: 'PREPAID',
        payTimeoutMs: undefined,
        defaultLimit: 1,
        requireToken: true,
      });
      for (const opened of [false, true]) {
        if (opened) await replica.sales.open(plan.id);
        const { kind, askAgainMs = 0, ...times } = await enter(plan.id, 1);
        assert.equal(kind, 'NOT_STARTED');
        assert.deepEqual(times.startsAt, startsAt);
        assert.ok(Math.abs(times.serverTime.getTime() - Date.now()) < 60_000);
        assert.ok(askAgainMs > 0 && askAgainMs <= TOKEN_TTL_MS / 2);
      }
      await assert.rejects(enter(999_999n, 1), isSaleNotFound);
    });

    it('are required by the sale, and valid for one user and one sale alone', async () => {
      const [itemId, other] = [await open(), await open()];
      assert.equal(await outcome(itemId, 1), 'TOKEN_REQUIRED');
      const { token, expiresAt, serverTime } = ready(await enter(itemId, 1));
      assert.equal(expiresAt.getTime() - serverTime.getTime(), TOKEN_TTL_MS);
      const foreign = [
        [itemId, 2, token],
        [other, 1, token],
        [itemId, 1, `${token.slice(0, -2)}AA`],
        [itemId, 1, 'nonsense'],
      ] as const;
      for (const [item, user, given] of foreign) {
        await assert.rejects(replica.buy(item, user, '', given), isPurchaseTokenInvalid);
      }
      assert.equal(await outcome(itemId, 1, '', token), 'QUEUED');
      const { id: saleId } = (await replica.sales.get(itemId)).sale;
      const old = replica.tokens.issue({ saleId, userId: formatUserId('1') }, 'old', Date.now() - 1);
      assert.equal(await outcome(itemId, 1, '', old), 'TOKEN_EXPIRED');
    });

    it('buy once, whatever request ids they come with', async () => {
      const itemId = await open();
      const [one, two] = [await tokenOf(itemId, 1), await tokenOf(itemId, 1)];
      assert.notEqual(one, two);
      const first = await replica.buy(itemId, 1, 'r', one);
      assert.equal(first.kind, 'QUEUED');
      // Again, with another request id, with none; and the request id with another token, which is spent by that.
      const repeats = [
        ['r', one],
        ['s', one],
        ['', one],
        ['r', two],
        ['t', two],
        ['s', await tokenOf(itemId, 1)],
      ] as const;
      for (const [requestId, token] of repeats) {
        assert.deepEqual(await replica.buy(itemId, 1, requestId, token), first, `${requestId} ${token}`);
      }
      // At the same moment, in one script call or in two.
      const three = await tokenOf(itemId, 1);
      const both = await Promise.all([1, 2, 3, 4].map((n) => replica.buy(itemId, 1, `u${n}`, three)));
      assert.equal(new Set(both.map((o) => (o.kind === 'QUEUED' ? o.seckillId : ''))).size, 1);
      assert.notDeepEqual(both[0], first);
      await eventually('both are orders', () => replica.idle(itemId));
      assert.equal((await replica.sales.get(itemId)).sale.sold, 2n);
      assert.deepEqual(await replica.faultsOf(itemId), []);
    });

    it('stay valid, or spent, over a reload of the sale, and end with the sale', async () => {
      const itemId = await open();
      const [spent, unspent] = [await tokenOf(itemId, 1), await tokenOf(itemId, 1)];
      const first = await replica.buy(itemId, 1, '', spent);
      await replica.loader.load(itemId);
      assert.deepEqual(await replica.buy(itemId, 1, '', spent), first);
      const second = await replica.buy(itemId, 1, '', unspent);
      assert.equal(second.kind, 'QUEUED');
      const late = await tokenOf(itemId, 1);
      await replica.sales.close(itemId);
      assert.equal((await enter(itemId, 1)).kind, 'ENDED');
      assert.equal(await outcome(itemId, 1, '', late), 'ENDED');
      assert.deepEqual(await replica.buy(itemId, 1, '', unspent), second);
      await eventually('the stream is empty', () => replica.idle(itemId));
    });

    it('may be required and waived while the sale runs', async () => {
      const itemId = await open({ requireToken: false });
      assert.equal(await outcome(itemId, 1), 'QUEUED');
      const { version } = (await replica.sales.get(itemId)).sale;
      const changed = await replica.sales.update(itemId, version, { requireToken: true });
      assert.equal(changed.sale.requireToken, true);
      await eventually('it is known', async () => (await outcome(itemId, 2)) === 'TOKEN_REQUIRED');
      // Repeating a change is none; another one meanwhile is a conflict.
      assert.equal((await replica.sales.update(itemId, version, { requireToken: true })).sale.version, version + 1n);
      await assert.rejects(replica.sales.update(itemId, version, { requireToken: false }), isSaleVersionConflict);
      await replica.sales.update(itemId, version + 1n, { requireToken: false });
      await eventually('it is known', async () => (await outcome(itemId, 3)) === 'QUEUED');
    });

    it('are not required of trusted callers: a batch, and an entry added by XADD', async () => {
      const itemId = await open();
      const request = { userId: formatUserId('1'), quantity: 1, requestId: '', traceparent: '' };
      assert.deepEqual(
        (await replica.seckill.purchaseAll(itemId, [request])).map((o) => o.kind),
        ['QUEUED'],
      );
      await replica.redis.commands.xadd(replica.redis.keys.sale(itemId).stream, '*', 'uid', '2');
      await eventually('both are orders', async () => (await replica.sales.get(itemId)).sale.sold === 2n);
    });

    it('are refused when all units are sold, and the reply says whether units may come back', async () => {
      const itemId = await open({ total: 1n, payMode: 'PAY_LATER' });
      const token = await tokenOf(itemId, 1);
      assert.equal(await outcome(itemId, 2, '', await tokenOf(itemId, 2)), 'QUEUED');
      const refused = await enter(itemId, 3);
      assert.deepEqual([refused.kind, refused.kind === 'SOLD_OUT' && refused.mayReturn], ['SOLD_OUT', true]);
      assert.equal(await outcome(itemId, 1, '', token), 'SOLD_OUT');
      const [order] = await eventually('the order is there', async () => {
        const rows = await replica.rows<{ id: bigint; user_id: string }>(
          'SELECT id, user_id FROM orders WHERE product_id = $1',
          itemId,
        );
        return rows.length > 0 && rows;
      });
      await replica.orders.cancel(order!.id, order!.user_id, 'changed my mind');
      await replica.relayReturns();
      // A token that bought nothing is not spent.
      await eventually('it is on sale again', async () => (await outcome(itemId, 1, '', token)) === 'QUEUED');
    });

    describe('of an item whose next sale this process has not heard of', () => {
      /** An open sale that this process knows, closed, and the item's next one, which requires tokens, opened elsewhere. */
      const replaced = async (first: Partial<CreateSale>) => {
        const itemId = await open(first);
        const other = replicaOn(servers, redis());
        await other.start();
        try {
          await replica.saleCache.find(itemId);
          await other.sales.close(itemId);
          await other.openSaleOf(itemId, { requireToken: true, defaultLimit: 5 });
        } finally {
          await other.close();
        }
        return itemId;
      };

      it('are required by the next sale although the one before required none', async () => {
        const itemId = await replaced({ requireToken: false });
        assert.equal(await outcome(itemId, 1), 'TOKEN_REQUIRED');
        assert.equal(await replica.redis.commands.xlen(replica.redis.keys.sale(itemId).stream), 0);
      });

      it('are issued for the next sale, which takes them', async () => {
        const itemId = await replaced({});
        const token = await tokenOf(itemId, 1);
        assert.equal(await outcome(itemId, 1, '', token), 'QUEUED');
      });
    });
  });
}
