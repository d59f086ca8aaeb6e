import assert from 'node:assert/strict';
import { isSaleUnavailable, saleUnavailable } from '../../gen/seckill/v1/errors.js';
import type { LoadLease } from '../../internal/biz/seckill/admission.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import type { DriftKind } from '../../internal/biz/seckill/sale-drift.js';
import { INSPECT } from '../../internal/data/redis/lua-script.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const LAST_STREAM_ID = '18446744073709551615-18446744073709551615';
/** More than a difference needs to count as damage. */
const ROUNDS = 20;

describe('The sale keeper', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
    await replica.startConsumer();
  });
  after(() => replica?.close());

  const redis = () => replica.redis.commands;
  const open = async (change: Partial<CreateSale> = {}) => (await replica.openSale(change)).itemId;
  const settled = (itemId: bigint) => eventually('the stream is empty', () => replica.idle(itemId));
  const holds = async (itemId: bigint) => assert.deepEqual(await replica.faultsOf(itemId), []);
  const saleOf = async (itemId: bigint) => (await replica.sales.get(itemId)).sale;
  const kindOf = async (...args: Parameters<SeckillReplica['buy']>) => (await replica.buy(...args)).kind;
  /** What a process sees of the sale that was not told of the last change. */
  const refreshCache = async (itemId: bigint) => replica.saleCache.refresh(await saleOf(itemId));
  /** All keys of an item, as a restart with older data or a failover to a replica brings them back. */
  const copyOf = async (itemId: bigint) => {
    const copies = new Map<string, Buffer>();
    for (const key of await redis().keys(`*seckill:${itemId}*`)) copies.set(key, await redis().dumpBuffer(key));
    return async () => {
      for (const key of await redis().keys(`*seckill:${itemId}*`)) if (!copies.has(key)) await redis().del(key);
      for (const [key, copy] of copies) await redis().restore(key, 0, copy, 'REPLACE');
    };
  };
  /** Puts `broken` in place of a method of admission while `work` runs. */
  const whileBroken = async <T>(method: 'close' | 'configure', work: () => Promise<T>): Promise<T> => {
    replica.admission[method] = (): Promise<never> => Promise.reject(saleUnavailable('away'));
    try {
      return await work();
    } finally {
      Reflect.deleteProperty(replica.admission, method);
    }
  };
  const whileFull = async <T>(work: () => Promise<T>): Promise<T> => {
    await redis().config('SET', 'maxmemory', '1');
    try {
      return await work();
    } finally {
      await redis().config('SET', 'maxmemory', '0');
    }
  };

  describe('with a sale that is closed', () => {
    it('closes the sale in Redis later if Redis was unavailable, and admits no purchases in between', async () => {
      const itemId = await open({ defaultLimit: 5 });
      const granted = await replica.buy(itemId, 1, 'before');
      const closed = await whileBroken('close', () => replica.sales.close(itemId));
      assert.equal(closed.sale.status, 'CLOSED');
      // Redis would still admit.
      assert.ok((await replica.admission.state(itemId)).loaded);
      await refreshCache(itemId);
      assert.equal(await kindOf(itemId, 2, 'after'), 'ENDED');
      assert.equal(await kindOf(itemId, 2), 'ENDED');
      const [inBatch] = await replica.seckill.purchaseAll(itemId, [
        { userId: '00000000-0000-8000-8000-000000000003', quantity: 1, requestId: 'batch', traceparent: '' },
      ]);
      assert.equal(inBatch?.kind, 'ENDED');
      assert.deepEqual(await replica.buy(itemId, 1, 'before'), granted);
      const { propagated } = await replica.schedule.reconcile();
      assert.ok(propagated > 0);
      const { loaded, closedEpoch } = await replica.admission.state(itemId);
      assert.deepEqual([loaded, closedEpoch], [undefined, closed.sale.epoch]);
      await settled(itemId);
      assert.equal((await saleOf(itemId)).sold, 1n);
    });

    it('closes Redis again after a failover to a replica that had not heard of it', async () => {
      const itemId = await open();
      const restore = await copyOf(itemId);
      await replica.sales.close(itemId);
      await restore();
      assert.ok((await replica.admission.state(itemId)).loaded);
      const { drifting } = await replica.schedule.reconcile();
      assert.equal(drifting.get('NOT_CLOSED'), 1);
      assert.equal((await replica.admission.state(itemId)).loaded, undefined);
      const after = await replica.schedule.reconcile();
      assert.deepEqual([after.propagated, after.drifting.get('NOT_CLOSED')], [0, undefined]);
    });

    /** Runs `meanwhile` between the transaction of a load and its last step in Redis. */
    const loadWith = async (itemId: bigint, meanwhile: () => Promise<unknown>) => {
      const leaseLoad = replica.admission.leaseLoad.bind(replica.admission);
      replica.admission.leaseLoad = async (id): Promise<LoadLease | undefined> => {
        const lease = await leaseLoad(id);
        return (
          lease && {
            ...lease,
            load: async (state) => {
              await meanwhile();
              return lease.load(state);
            },
          }
        );
      };
      try {
        return await replica.loader.load(itemId);
      } finally {
        Reflect.deleteProperty(replica.admission, 'leaseLoad');
      }
    };

    it('keeps it closed when a load of it was under way', async () => {
      const itemId = await open();
      assert.equal(await loadWith(itemId, () => replica.sales.close(itemId)), 'SUPERSEDED');
      assert.equal((await replica.admission.state(itemId)).loaded, undefined);
      assert.equal(await kindOf(itemId, 1, 'r'), 'ENDED');
    });

    it('keeps it closed when a load of it was under way and Redis lost what it was told', async () => {
      const itemId = await open();
      await loadWith(itemId, async () => {
        await replica.sales.close(itemId);
        await redis().del(saleKeys('', itemId).meta);
      });
      assert.equal((await replica.admission.state(itemId)).loaded, undefined);
    });

    it('leaves the next sale of the item alone', async () => {
      const itemId = await open();
      await replica.sales.close(itemId);
      await replica.openSaleOf(itemId);
      await replica.schedule.reconcile();
      assert.equal(await eventually('the next sale is known', async () => kindOf(itemId, 1)), 'QUEUED');
      await settled(itemId);
    });
  });

  describe('with a changed setting', () => {
    const lower = async (itemId: bigint) => {
      const { version } = await saleOf(itemId);
      return replica.sales.update(itemId, version, { defaultLimit: 1, admitRate: 3 });
    };

    it('tells Redis of limits and rates that it could not be told at once', async () => {
      const itemId = await open({ defaultLimit: 5 });
      const vip = { itemId, userId: '00000000-0000-8000-8000-000000000009', limit: 0, version: 0n };
      await whileBroken('configure', async () => {
        assert.equal((await lower(itemId)).sale.defaultLimit, 1);
        assert.equal((await replica.sales.setVipLimit(vip)).limit, 0);
      });
      assert.equal((await replica.admission.state(itemId)).loaded?.defaultLimit, 5);
      const { propagated, reloaded } = await replica.schedule.reconcile();
      assert.deepEqual([propagated, reloaded], [1, []]);
      const { loaded } = await replica.admission.state(itemId);
      const { settingsVersion } = await saleOf(itemId);
      assert.deepEqual([loaded?.defaultLimit, loaded?.admitRate, loaded?.settingsVersion], [1, 3, settingsVersion]);
      assert.equal(await redis().hget(saleKeys('', itemId).vip, vip.userId), '0');
    });

    it('has it hold in Redis as soon as there is memory again', async () => {
      const itemId = await open({ defaultLimit: 5 });
      await whileFull(() => replica.sales.update(itemId, 2n, { defaultLimit: 1 }));
      assert.equal(await kindOf(itemId, 1), 'QUEUED');
      assert.equal(await kindOf(itemId, 1), 'LIMIT_REACHED');
      await settled(itemId);
    });

    it('tells the last value when another one is set between the telling', async () => {
      const itemId = await open({ defaultLimit: 5 });
      const configure = replica.admission.configure.bind(replica.admission);
      let calls = 0;
      replica.admission.configure = async (sale, change) => {
        // The second change is made and told while the first is on its way.
        if (calls++ === 0) await replica.sales.update(itemId, 3n, { defaultLimit: 2 });
        return configure(sale, change);
      };
      try {
        await replica.sales.update(itemId, 2n, { defaultLimit: 7 });
      } finally {
        Reflect.deleteProperty(replica.admission, 'configure');
      }
      assert.equal((await saleOf(itemId)).defaultLimit, 2);
      assert.equal((await replica.admission.state(itemId)).loaded?.defaultLimit, 2);
    });

    it('tells more VIP limits than one call takes', async () => {
      const itemId = await open();
      const { id } = await saleOf(itemId);
      await replica.rows(
        `INSERT INTO vip_limits (sale_id, user_id, units, settings_version)
           SELECT $1, ('00000000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, n % 100, 1 + n
           FROM generate_series(1, 2500) AS n`,
        id,
      );
      await replica.rows('UPDATE sales SET settings_version = 2501 WHERE id = $1', id);
      assert.equal((await replica.schedule.reconcile()).propagated, 1);
      assert.equal(await redis().hlen(saleKeys('', itemId).vip), 2_500);
      assert.equal((await replica.admission.state(itemId)).loaded?.settingsVersion, 2_501n);
    });
  });

  describe('with a difference that persists', () => {
    /** Rounds until the sale is loaded under another epoch. @returns what was given as the cause */
    const healed = async (itemId: bigint): Promise<{ kind: DriftKind; rounds: number }> => {
      const { epoch } = await saleOf(itemId);
      for (let rounds = 1; rounds <= ROUNDS; rounds++) {
        const { reloaded, failures } = await replica.schedule.reconcile();
        assert.deepEqual(failures, []);
        const mine = reloaded.find((r) => r.itemId === itemId);
        if (!mine) continue;
        assert.ok((await saleOf(itemId)).epoch > epoch);
        return { kind: mine.kind, rounds };
      }
      return assert.fail(`not loaded anew in ${ROUNDS} rounds`);
    };
    const keys = (itemId: bigint) => saleKeys('', itemId);
    const damages: Readonly<Record<string, [DriftKind, (itemId: bigint) => Promise<unknown>]>> = {
      'a unit too many': ['BALANCE', (itemId) => redis().incr(keys(itemId).stock)],
      'a unit too few': ['BALANCE', (itemId) => redis().decr(keys(itemId).stock)],
      'buyers that were deleted': ['BUYERS', (itemId) => redis().del(keys(itemId).buyers)],
      'a buyer that was made up': ['BUYERS', (itemId) => redis().hset(keys(itemId).buyers, 'no-uuid', '3')],
      'another limit': ['LIMIT', (itemId) => redis().hset(keys(itemId).meta, 'limit', '9')],
      'another admit rate': ['ADMIT_RATE', (itemId) => redis().hset(keys(itemId).meta, 'admit_rate', '9')],
      'another start': ['WINDOW', (itemId) => redis().hset(keys(itemId).meta, 'starts_ms', '9')],
      'another end': ['WINDOW', (itemId) => redis().hset(keys(itemId).meta, 'ends_ms', '4000000000000')],
    };
    for (const [what, [kind, damage]] of Object.entries(damages)) {
      it(`loads the sale anew: ${what}`, async () => {
        const itemId = await open({ defaultLimit: 2 });
        const neighbour = await open();
        for (const user of [1, 2]) await replica.buy(itemId, user);
        await settled(itemId);
        await damage(itemId);
        const before = (await saleOf(neighbour)).epoch;
        const result = await healed(itemId);
        assert.equal(result.kind, kind);
        assert.ok(result.rounds > 1, 'a difference may be a delay');
        await holds(itemId);
        assert.equal((await saleOf(neighbour)).epoch, before);
        const { drifting } = await replica.schedule.reconcile();
        assert.equal(drifting.get(kind), undefined);
      });
    }

    it('loads the sale anew when older data come back under the same server', async () => {
      const itemId = await open();
      await replica.buy(itemId, 1);
      await settled(itemId);
      const restore = await copyOf(itemId);
      for (const user of [2, 3]) await replica.buy(itemId, user);
      await settled(itemId);
      await restore();
      assert.match((await healed(itemId)).kind, /^(BALANCE|BUYERS)$/);
      await holds(itemId);
    });

    it('sells the units of purchases again whose stream was deleted', async () => {
      const itemId = await open({ total: 3n });
      await replica.stopConsumer();
      try {
        for (const user of [1, 2]) await replica.buy(itemId, user);
        await redis().del(saleKeys('', itemId).stream);
        await healed(itemId);
        assert.equal((await replica.sales.get(itemId)).remaining, 3n);
      } finally {
        await replica.startConsumer();
      }
    });

    it('takes no forged epoch', async () => {
      const itemId = await open();
      await redis().hset(saleKeys('', itemId).meta, 'epoch', '2147483000');
      assert.equal((await healed(itemId)).kind, 'NOT_LOADED');
      assert.equal(await kindOf(itemId, 1), 'QUEUED');
      await settled(itemId);
      await holds(itemId);
    });

    it('leaves a sale alone whose units are waiting, being settled or being returned', async () => {
      const itemId = await open({ total: 20n, payMode: 'PAY_LATER', defaultLimit: 3 });
      const { epoch } = await saleOf(itemId);
      for (let user = 1; user <= 10; user++) await replica.buy(itemId, user);
      await redis().xadd(saleKeys('', itemId).stream, '*', 'uid', '11');
      for (let round = 0; round < 8; round++) {
        const { reloaded, failures } = await replica.schedule.reconcile();
        assert.deepEqual([reloaded, failures], [[], []]);
      }
      await settled(itemId);
      const orders = await replica.rows<{ id: bigint; user_id: string }>(
        'SELECT id, user_id FROM orders WHERE product_id = $1 LIMIT 4',
        itemId,
      );
      for (const order of orders) await replica.orders.cancel(order.id, order.user_id, '');
      for (let round = 0; round < 8; round++) assert.deepEqual((await replica.schedule.reconcile()).reloaded, []);
      await replica.relayReturns();
      for (let round = 0; round < 8; round++) assert.deepEqual((await replica.schedule.reconcile()).reloaded, []);
      assert.equal((await saleOf(itemId)).epoch, epoch);
    });
  });

  describe('with a key that another program wrote', () => {
    it('loads the sale anew, whose buyers get SALE_UNAVAILABLE meanwhile, and no other sale notices', async () => {
      const neighbour = await open({ total: 100n });
      let buyer = 0;
      for (const key of INSPECT.keys) {
        const itemId = await open();
        const keys = saleKeys('', itemId);
        await redis().del(keys[key]);
        if (key === 'stock' || key === 'req') await redis().set(keys[key], 'seven');
        else await redis().set(keys[key], 'x');
        // A purchase reads all of them but those of the waiting room and of returned units.
        if (!['returned', 'waitingRoom', 'tickets'].includes(key)) {
          await assert.rejects(replica.buy(itemId, 1, 'r'), isSaleUnavailable, key);
        }
        const listed = await replica.sales.list({ offset: 0, limit: 100 }, 'OPEN');
        assert.equal(listed.items.find((v) => v.sale.itemId === itemId)?.remaining, 0n, key);
        assert.ok(listed.items.find((v) => v.sale.itemId === neighbour)!.remaining > 0n, key);
        const { reloaded, failures } = await replica.schedule.reconcile();
        assert.deepEqual([reloaded.map((r) => [r.itemId, r.kind]), failures], [[[itemId, 'UNREADABLE']], []], key);
        assert.equal(await kindOf(itemId, 1, 'r'), 'QUEUED', key);
        assert.equal(await kindOf(neighbour, ++buyer), 'QUEUED', key);
        await settled(itemId);
        await holds(itemId);
      }
      await settled(neighbour);
    });

    it('gives the units of a closed sale of goods back although its stream is another program’s', async () => {
      const sku = await replica.sku(5n);
      await replica.openSaleOf(sku.id, { total: 5n });
      await redis().del(saleKeys('', sku.id).stream);
      await redis().set(saleKeys('', sku.id).stream, 'mine');
      await replica.sales.close(sku.id);
      await eventually('the units are back', async () => {
        await replica.schedule.reconcile();
        return (await saleOf(sku.id)).returned === 5n;
      });
    });

    it('goes on with a fresh stream when the greatest stream id is used', async () => {
      const itemId = await open();
      const waiting = await replica.buy(itemId, 1);
      await settled(itemId);
      await redis().xadd(saleKeys('', itemId).stream, LAST_STREAM_ID, 'uid', '2');
      await eventually('it sells again', async () => {
        await replica.schedule.reconcile();
        return (await kindOf(itemId, 3).catch(() => undefined)) === 'QUEUED';
      });
      await settled(itemId);
      await holds(itemId);
      assert.ok(waiting.kind === 'QUEUED');
      assert.equal((await saleOf(itemId)).sold, 3n);
    });
  });

  it('reports a load that another process is busy with, and does it when that one has died', async () => {
    const itemId = await open();
    const other = new SeckillReplica(servers);
    await other.start();
    assert.ok(await other.admission.leaseLoad(itemId));
    await redis().del(saleKeys('', itemId).meta);
    const { leased, reloaded, drifts } = await replica.schedule.reconcile();
    assert.deepEqual([leased, reloaded], [[itemId], []]);
    assert.ok(drifts.some((d) => d.itemId === itemId && d.kind === 'NOT_LOADED'));
    await other.close();
    await eventually('it sells again', async () => {
      await replica.schedule.reconcile();
      return (await kindOf(itemId, 1).catch(() => undefined)) === 'QUEUED';
    });
    await settled(itemId);
  });

  it('reports Redis as away once for all sales, and goes on when it is back', async () => {
    const itemId = await open();
    replica.admission.ping = () => Promise.reject(saleUnavailable('away'));
    try {
      const { failures } = await replica.schedule.reconcile();
      assert.deepEqual(
        failures.map((f) => [f.itemId, isSaleUnavailable(f.cause)]),
        [[undefined, true]],
      );
    } finally {
      Reflect.deleteProperty(replica.admission, 'ping');
    }
    await redis().del(saleKeys('', itemId).meta);
    assert.equal((await replica.schedule.reconcile()).reloaded.length, 1);
  });

  it('goes on with the other sales when one of them fails', async () => {
    const [bad, good] = [await open(), await open()];
    const state = replica.admission.state.bind(replica.admission);
    replica.admission.state = (itemId) => (itemId === bad ? Promise.reject(new Error('broken')) : state(itemId));
    try {
      await redis().del(saleKeys('', good).meta);
      const { failures, reloaded } = await replica.schedule.reconcile();
      assert.deepEqual(
        failures.map((f) => [f.itemId, (f.cause as Error).message]),
        [[bad, 'broken']],
      );
      assert.deepEqual(
        reloaded.map((r) => r.itemId),
        [good],
      );
    } finally {
      Reflect.deleteProperty(replica.admission, 'state');
    }
  });
});
