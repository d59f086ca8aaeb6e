import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import {
  isSaleStatusConflict,
  isSaleUnavailable,
  isSaleVersionConflict,
  saleUnavailable,
} from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import type { SalePatch } from '../../internal/biz/seckill/sale-state.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { KratosError } from '../../internal/kratos/errors/error.js';
import { violationsOf } from '../support/audit.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const HOUR_MS = 3_600_000;
/** Balance, limits, stock ledger, settings. */
const INVARIANTS = [1, 2, 3, 4, 5, 13, 16];

describe('UpdateSale', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
  });
  after(() => replica?.close());
  afterEach(() => replica.stopConsumer());

  const settle = async (itemId: bigint) => {
    await replica.startConsumer();
    await eventually('the stream is empty', () => replica.idle(itemId));
  };
  const saleOf = async (itemId: bigint) => (await replica.sales.get(itemId)).sale;
  const update = async (itemId: bigint, patch: SalePatch) =>
    replica.sales.update(itemId, (await saleOf(itemId)).version, patch);
  const kindOf = async (itemId: bigint, user: number) => (await replica.buy(itemId, user)).kind;
  const users = (n: number, from = 1) => Array.from({ length: n }, (_, i) => from + i);
  const buyAll = (itemId: bigint, ids: readonly number[]) => Promise.all(ids.map((user) => kindOf(itemId, user)));
  const planned = async (change: Partial<CreateSale> = {}) => {
    const { id: itemId } = await replica.plan();
    const startsAt = new Date(Date.now() + HOUR_MS);
    await replica.sales.create({
      ...{ itemId, name: '', startsAt, endsAt: undefined, total: 10n, priceFen: 100n, payMode: 'PREPAID' },
      ...{ payTimeoutMs: undefined, defaultLimit: 1, ...change },
    });
    return itemId;
  };
  const goods = async (stock: bigint, change: Partial<CreateSale>) => {
    const { id } = await replica.sku(stock);
    await replica.openSaleOf(id, change);
    return id;
  };
  const clean = async () => assert.deepEqual(await violationsOf(replica.db, replica.redis, INVARIANTS), []);
  const rejected = async (itemId: bigint) =>
    Number(
      (
        await replica.rows<{ n: bigint }>(
          `SELECT count(*) AS n FROM stream_inbox
      WHERE item_id = $1 AND outcome <> 'ORDER'`,
          itemId,
        )
      )[0]?.n,
    );
  const totalViolation = (least: string) => (err: unknown) => {
    assert.ok(isInvalidArgument(err));
    assert.deepEqual([err.violations[0]?.field, err.metadata.least], ['total', least]);
    return true;
  };
  /** Puts `instead` in place of a method of admission while `work` runs. */
  const whileAdmission = async <T>(method: 'configure' | 'withdraw', instead: unknown, work: () => Promise<T>) => {
    Object.assign(replica.admission, { [method]: instead });
    try {
      return await work();
    } finally {
      Reflect.deleteProperty(replica.admission, method);
    }
  };
  const away = () => Promise.reject(saleUnavailable('away'));

  describe('of the total', () => {
    it('sells more units of a sale that was sold out', async () => {
      const { itemId } = await replica.openSale({ total: 2n });
      assert.deepEqual(await buyAll(itemId, [1, 2, 3]), ['QUEUED', 'QUEUED', 'SOLD_OUT']);
      const { sale, remaining } = await update(itemId, { total: 5n });
      assert.deepEqual([sale.total, remaining], [5n, 3n]);
      assert.deepEqual(await buyAll(itemId, users(4, 10)), ['QUEUED', 'QUEUED', 'QUEUED', 'SOLD_OUT']);
      await settle(itemId);
      assert.deepEqual(await replica.faultsOf(itemId), []);
      await clean();
    });

    it('takes the units of goods from the free stock of their sku and gives unsold ones back', async () => {
      const skuId = await goods(10n, { total: 4n });
      assert.deepEqual(await replica.levelOf(skuId), [10n, 4n]);
      await update(skuId, { total: 9n });
      assert.deepEqual(await replica.levelOf(skuId), [10n, 9n]);
      await buyAll(skuId, [1, 2]);
      await settle(skuId);
      await update(skuId, { total: 3n });
      assert.deepEqual(await replica.levelOf(skuId), [8n, 1n]);
      await update(skuId, { total: 6n });
      await assert.rejects(update(skuId, { total: 11n }), (err: unknown) => {
        assert.ok(isInvalidArgument(err));
        assert.deepEqual(err.violations, [
          { field: 'total', description: 'must be at most 10: 4 units of the sku are free' },
        ]);
        return true;
      });
      assert.deepEqual(await replica.levelOf(skuId), [8n, 4n]);
      await clean();
      await replica.sales.close(skuId);
      assert.deepEqual(await replica.levelOf(skuId), [8n, 0n]);
      await clean();
    });

    it('is not lower than what is sold and what purchases are admitted to', async () => {
      const { itemId } = await replica.openSale({ total: 10n });
      await buyAll(itemId, users(4));
      // None of them is an order yet.
      await assert.rejects(update(itemId, { total: 3n }), totalViolation('4'));
      assert.equal((await saleOf(itemId)).total, 10n);
      await update(itemId, { total: 4n });
      assert.equal(await kindOf(itemId, 9), 'SOLD_OUT');
      await settle(itemId);
      await assert.rejects(update(itemId, { total: 3n }), totalViolation('4'));
      assert.equal(await rejected(itemId), 0);
      assert.deepEqual(await replica.faultsOf(itemId), []);
      await clean();
    });

    it('rejects no purchase that was admitted while it is lowered and raised', async () => {
      const itemId = await goods(200n, { total: 100n });
      await replica.startConsumer();
      let queued = 0;
      const buyers = users(12).map(async (lane) => {
        for (const user of users(12, 1_000 * lane)) {
          if ((await kindOf(itemId, user)) === 'QUEUED') queued++;
        }
      });
      const operator = (async () => {
        for (const total of [40n, 110n, 20n, 60n, 30n, 90n]) {
          await update(itemId, { total }).catch((err: unknown) => {
            if (!isInvalidArgument(err)) throw err;
          });
        }
      })();
      await Promise.all([...buyers, operator]);
      await settle(itemId);
      assert.equal(await rejected(itemId), 0);
      const { sold, total } = await saleOf(itemId);
      assert.equal(sold, BigInt(queued));
      assert.ok(sold <= total);
      assert.deepEqual(await replica.levelOf(itemId), [200n - sold, total - sold]);
      await clean();
    });

    it('either happens before the sale is closed or fails', async () => {
      for (const total of [3n, 5n, 7n]) {
        const skuId = await goods(10n, { total: 5n });
        await buyAll(skuId, [1]);
        await settle(skuId);
        const { version } = await saleOf(skuId);
        const [changed, closed] = await Promise.allSettled([
          replica.sales.update(skuId, version, { total }),
          replica.sales.close(skuId),
        ]);
        assert.equal(closed.status, 'fulfilled');
        if (changed.status === 'rejected') {
          assert.ok(isSaleStatusConflict(changed.reason) || isSaleUnavailable(changed.reason), String(changed.reason));
        }
        await replica.schedule.reconcile();
        assert.deepEqual(await replica.levelOf(skuId), [9n, 0n]);
      }
      await clean();
    });

    it('is told to Redis later if Redis could not be told at once, and lowered only together with it', async () => {
      const { itemId } = await replica.openSale({ total: 2n });
      const endsAt = new Date(Date.now() + HOUR_MS);
      await whileAdmission('configure', away, async () => {
        await update(itemId, { total: 3n, endsAt });
        await buyAll(itemId, [1, 2]);
        assert.equal(await kindOf(itemId, 3), 'SOLD_OUT');
      });
      assert.ok((await replica.schedule.reconcile()).propagated > 0);
      const { loaded } = await replica.admission.state(itemId);
      assert.deepEqual([loaded?.total, loaded?.stock, loaded?.endsAt], [3n, 1n, endsAt]);
      await eventually('more units are noticed', async () => (await kindOf(itemId, 3)) === 'QUEUED');

      await update(itemId, { total: 8n });
      await whileAdmission('withdraw', away, () => assert.rejects(update(itemId, { total: 4n }), isSaleUnavailable));
      assert.equal((await saleOf(itemId)).total, 8n);
      await settle(itemId);
      await clean();
    });

    it('leaves no difference behind if the process dies between Redis and PostgreSQL', async () => {
      const skuId = await goods(20n, { total: 10n });
      const withdraw = replica.admission.withdraw.bind(replica.admission);
      const dies: typeof withdraw = async (...args) => {
        await withdraw(...args);
        throw new Error('the process died');
      };
      await whileAdmission('withdraw', dies, () => assert.rejects(update(skuId, { total: 4n }), /died/));
      assert.equal((await replica.admission.state(skuId)).loaded?.stock, 4n);
      assert.equal((await saleOf(skuId)).total, 10n);
      await eventually('the sale is loaded again', async () => {
        await replica.schedule.reconcile();
        return (await replica.admission.state(skuId)).loaded?.stock === 10n;
      });
      await settle(skuId);
      assert.deepEqual(await replica.levelOf(skuId), [20n, 10n]);
      await clean();
    });

    it('is not lowered while Redis has older settings', async () => {
      const { itemId } = await replica.openSale({ total: 10n });
      await whileAdmission('configure', away, () => update(itemId, { defaultLimit: 2 }));
      await assert.rejects(update(itemId, { total: 5n }), isSaleUnavailable);
      await replica.schedule.reconcile();
      assert.equal((await update(itemId, { total: 5n })).remaining, 5n);
      await clean();
    });
  });

  describe('of start, end and price', () => {
    it('changes all of them before the sale opens', async () => {
      const itemId = await planned();
      const startsAt = new Date(Date.now() - 1_000);
      const endsAt = new Date(Date.now() + HOUR_MS);
      await update(itemId, { startsAt, endsAt, priceFen: 7n, total: 3n });
      await replica.schedule.reconcile();
      const { status, total } = await saleOf(itemId);
      assert.deepEqual([status, total], ['OPEN', 3n]);
      const { loaded } = await replica.admission.state(itemId);
      assert.deepEqual([loaded?.startsAt, loaded?.endsAt, loaded?.total], [startsAt, endsAt, 3n]);
      await buyAll(itemId, [1]);
      await settle(itemId);
      const [order] = await replica.rows<{ amount: bigint }>('SELECT amount FROM orders WHERE product_id = $1', itemId);
      assert.equal(order?.amount, 7n);
    });

    it('keeps start and price of an open sale, and moves its end', async () => {
      const { itemId } = await replica.openSale();
      const { startsAt } = await saleOf(itemId);
      await assert.rejects(update(itemId, { priceFen: 7n }), isSaleStatusConflict);
      await assert.rejects(update(itemId, { startsAt: new Date(Date.now() + HOUR_MS) }), isSaleStatusConflict);
      const endsAt = new Date(Date.now() + HOUR_MS);
      // The values that it has are no change.
      await update(itemId, { endsAt, startsAt, priceFen: 100n });
      assert.deepEqual((await replica.admission.state(itemId)).loaded?.endsAt, endsAt);
      await update(itemId, { endsAt: null });
      assert.equal((await replica.admission.state(itemId)).loaded?.endsAt, undefined);
      assert.equal((await saleOf(itemId)).endsAt, undefined);
      await clean();
    });

    it('admits no purchase after an earlier end', async () => {
      const { itemId } = await replica.openSale();
      await update(itemId, { endsAt: new Date(Date.now() + 1_000) });
      await eventually('the end', async () => (await kindOf(itemId, Math.ceil(performance.now()))) === 'ENDED');
    });

    it('rejects an end that is past or before the start, and a start after the end', async () => {
      const itemId = await planned({ endsAt: new Date(Date.now() + 2 * HOUR_MS) });
      for (const patch of [
        { endsAt: new Date(Date.now() + HOUR_MS / 2) },
        { startsAt: new Date(0), endsAt: new Date(Date.now() - 1) },
        { startsAt: new Date(Date.now() + 3 * HOUR_MS) },
      ]) {
        await assert.rejects(
          update(itemId, patch),
          (err) => isInvalidArgument(err) && err.violations[0]?.field === 'ends_at',
        );
      }
    });

    it('keeps a sale open whose end was moved after the schedule had seen it pass', async () => {
      // Whatever other tests left behind.
      await replica.schedule.reconcile();
      const { itemId } = await replica.openSale({ endsAt: new Date(Date.now() + 100) });
      const findDue = replica.saleRepo.findDue.bind(replica.saleRepo);
      await eventually('the end', async () => (await findDue(0)).toClose.some((s) => s.itemId === itemId));
      replica.saleRepo.findDue = async (leadMs) => {
        const due = await findDue(leadMs);
        await update(itemId, { endsAt: new Date(Date.now() + HOUR_MS) });
        return due;
      };
      try {
        assert.equal((await replica.schedule.reconcile()).closed, 0);
      } finally {
        Reflect.deleteProperty(replica.saleRepo, 'findDue');
      }
      assert.equal((await saleOf(itemId)).status, 'OPEN');
      assert.equal(await kindOf(itemId, 1), 'QUEUED');
    });
  });

  it('happens once for each version, and a repeated call whose reply was lost succeeds', async () => {
    const { itemId } = await replica.openSale({ total: 10n });
    const { version } = await saleOf(itemId);
    const patch = { total: 6n, endsAt: new Date(Date.now() + HOUR_MS) };
    const replies = await Promise.allSettled([
      replica.sales.update(itemId, version, patch),
      replica.sales.update(itemId, version, patch),
      replica.sales.update(itemId, version, { total: 7n }),
    ]);
    const failed = replies.flatMap((r) => (r.status === 'rejected' ? [r.reason as unknown] : []));
    assert.ok(failed.every((err) => isSaleVersionConflict(err)));
    assert.ok(failed.length === 1 || failed.length === 2);
    const { total, version: now } = await saleOf(itemId);
    assert.equal(now, version + 1n);
    assert.equal((await replica.admission.state(itemId)).loaded?.stock, total);
    await clean();
  });

  it('is read from Redis by nothing that an older version wrote: such a sale is loaded again', async () => {
    const { itemId } = await replica.openSale();
    await replica.redis.commands.hdel(saleKeys('', itemId).meta, 'total');
    await replica.schedule.reconcile();
    assert.equal((await replica.admission.state(itemId)).loaded?.total, 10n);
    await clean();
  });

  it('goes with the list of VIP limits, page by page', async () => {
    const { itemId } = await replica.openSale({ total: 10n });
    for (const user of [3, 1, 2]) {
      await replica.sales.setVipLimit({ itemId, userId: formatUserId(String(user)), limit: user, version: 0n });
    }
    await buyAll(itemId, [2]);
    await settle(itemId);
    const list = async (offset: number, limit: number) => {
      const { items, total } = await replica.sales.listVipLimits(itemId, { offset, limit });
      return [total, ...items.map((i) => [i.userId, i.limit, i.left, i.version])];
    };
    const row = (user: number, left: number) => [formatUserId(String(user)), user, left, 1n];
    assert.deepEqual(await list(0, 2), [3n, row(1, 1), row(2, 1)]);
    assert.deepEqual(await list(2, 2), [3n, row(3, 3)]);
    await assert.rejects(
      replica.sales.listVipLimits(999_999n, { offset: 0, limit: 1 }),
      (err) => err instanceof KratosError && err.reason === 'SALE_NOT_FOUND',
    );
  });
});
