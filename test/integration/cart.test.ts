import assert from 'node:assert/strict';
import { isCartFull, isCartMerged, isCartNothingSelected } from '../../gen/cart/v1/errors.js';
import { isSkuNotFound, isSkuNotOnSale, isStockInsufficient } from '../../gen/catalog/v1/errors.js';
import { isPriceChanged, isRequestIdReused } from '../../gen/order/v1/errors.js';
import type { CartMark, PutLine } from '../../internal/biz/cart/cart.js';
import { CartCheckoutUsecase, type CheckoutCart } from '../../internal/biz/cart/cart-checkout.js';
import { CartLoader } from '../../internal/biz/cart/cart-load.js';
import { type CartOwner, userCart } from '../../internal/biz/cart/cart-owner.js';
import { CartSaveUsecase } from '../../internal/biz/cart/cart-save.js';
import type { CartStore } from '../../internal/biz/cart/cart-store.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { PgSavedCarts } from '../../internal/data/postgres/cart.js';
import { PgCartCheckoutRepo } from '../../internal/data/postgres/cart-checkout.js';
import { PgCatalogRepo } from '../../internal/data/postgres/catalog.js';
import { newLine } from '../contract/saved-carts.js';
import { violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const REGION = '310115';
const RECEIVER = { name: '张三', phone: '13800000000', region: REGION, address: 'Century Avenue 1' };

describe('carts on two replicas', () => {
  const servers = useServers('postgres', 'redis');
  let one: SeckillReplica;
  let two: SeckillReplica;
  let users = 9_000;

  before(async () => {
    [one, two] = [new SeckillReplica(servers), new SeckillReplica(servers)];
    await Promise.all([one.start(), two.start()]);
  });
  after(() => Promise.all([one?.close(), two?.close()]));
  afterEach(async () => {
    assert.deepEqual(await violationsOf(one.db, one.redis, [1, 5, 6, 7, 12, 13]), []);
  });

  const buyer = () => userCart(formatUserId(String(++users)));
  const guest = (): CartOwner => {
    const token = one.guestTokens.issue();
    return one.guestTokens.ownerOf(token.token);
  };
  const put = (owner: CartOwner, skuId: bigint, change: Partial<PutLine> = {}, on = one) =>
    on.carts.put(owner, { skuId, quantity: undefined, selected: undefined, ...change });
  const get = (owner: CartOwner, on = one) => on.carts.get(owner, { region: REGION });
  const quantities = async (owner: CartOwner, on = one) =>
    new Map((await get(owner, on)).lines.map(({ line }) => [line.skuId, line.quantity]));
  const marksOf = async (owner: CartOwner) =>
    new Map((await get(owner)).lines.map(({ line, marks }): [bigint, readonly CartMark[]] => [line.skuId, marks]));
  const wanted = (owner: CartOwner, change: Partial<CheckoutCart> = {}): CheckoutCart => ({
    ...{ userId: owner.id, requestId: '', receiver: RECEIVER, remark: '', expectedAmountFen: undefined, ...change },
  });
  /** Saves until nothing is left to be saved. */
  const saveAll = async (on = one) => {
    await eventually('every cart is saved', async () => {
      const { failures } = await on.cartSaves.saveDue();
      assert.deepEqual(failures, []);
      return (await on.cartStore.backlog()).units === 0 || undefined;
    });
  };
  const loseRedis = () => one.redis.commands.flushdb();
  const ordersOf = (owner: CartOwner) => one.rows('SELECT id FROM orders WHERE user_id = $1', owner.id);

  it('shows what has changed since a line was added, and quotes the selected lines that are on sale', async () => {
    const owner = buyer();
    const [a, b, c, d] = await Promise.all([one.sku(10n), one.sku(10n), one.sku(1n), one.sku(10n)]);
    for (const sku of [a, b, c, d]) await put(owner, sku.id, { quantity: 2 });
    await put(owner, b.id, { selected: false });
    await one.catalog.updateSku(a.id, a.version, { priceFen: 8_000n });
    const spu = await one.catalog.getSpu(d.spuId, 'operator');
    await one.catalog.updateSpu(d.spuId, spu.spu.version, { publishStatus: 'UNPUBLISHED' });
    assert.deepEqual(
      await marksOf(owner),
      new Map<bigint, readonly CartMark[]>([
        [d.id, ['NOT_ON_SALE']],
        [c.id, ['OUT_OF_STOCK']],
        [b.id, []],
        [a.id, ['CHANGED_PRICE']],
      ]),
    );
    const { lines, quote } = await get(owner, two);
    const shown = lines.find((l) => l.line.skuId === a.id)!;
    assert.deepEqual(
      [shown.line.priceFen, shown.goods?.sku.priceFen, shown.goods?.spu.title],
      [9_900n, 8_000n, 'phone'],
    );
    assert.deepEqual(
      quote?.lines.map((l) => l.skuId),
      [a.id, c.id].sort((x, y) => (x < y ? -1 : 1)),
    );
    assert.equal(quote?.totalFen, 2n * 8_000n + 2n * 9_900n);
    await assert.rejects(put(buyer(), d.id), isSkuNotOnSale);
    assert.equal((await put(owner, d.id, { selected: false })).selected, false, 'a line that is there can be changed');
    await assert.rejects(put(owner, 1n), isSkuNotFound);
  });

  it('has room for 100 lines', async () => {
    const owner = buyer();
    const lines = Array.from({ length: 99 }, (_, i) => newLine(BigInt(i + 1)));
    await one.cartStore.load(owner, { version: 0n, taken: 0n, merged: false, changed: false, lines });
    const [a, b] = await Promise.all([one.sku(1n), one.sku(1n)]);
    await put(owner, a.id);
    await assert.rejects(put(owner, b.id), isCartFull);
    assert.equal((await get(owner)).lines.length, 100);
  });

  it('brings carts back as last saved when Redis is lost, and no line that was removed before', async () => {
    const [owner, visitor] = [buyer(), guest()];
    const [a, b, c] = await Promise.all([one.sku(9n), one.sku(9n), one.sku(9n)]);
    for (const cart of [owner, visitor]) {
      await put(cart, a.id, { quantity: 3 });
      await put(cart, b.id, { selected: false });
    }
    await saveAll();
    await one.carts.remove(owner, [a.id]);
    assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]), 'Redis is fine: it does not come back');
    await saveAll(two);
    await put(owner, c.id);
    await loseRedis();
    const { line } = (await get(owner, two)).lines[0]!;
    assert.deepEqual([line.skuId, line.selected], [b.id, false]);
    assert.deepEqual(
      await quantities(visitor, two),
      new Map([
        [a.id, 3],
        [b.id, 1],
      ]),
    );
    await one.carts.remove(owner);
    assert.deepEqual(await quantities(owner), new Map(), 'emptied, not lost');
    await saveAll();
    await loseRedis();
    assert.deepEqual(await quantities(owner), new Map(), 'saved as emptied');
  });

  it('loads a cart again that has left Redis, for all of those who ask at once', async () => {
    const owner = buyer();
    const skus = await Promise.all(Array.from({ length: 8 }, () => one.sku(9n)));
    await put(owner, skus[0]!.id, { quantity: 5 });
    await saveAll();
    await loseRedis();
    await Promise.all(skus.slice(1).map(({ id }, i) => put(owner, id, {}, i % 2 === 0 ? one : two)));
    assert.equal((await quantities(owner)).get(skus[0]!.id), 5);
    assert.equal((await quantities(owner)).size, 8);
  });

  it('saves bounded batches, and the carts beside one that cannot be saved', async () => {
    const sku = await one.sku(9n);
    await saveAll();
    const owners = Array.from({ length: 20 }, buyer);
    for (const owner of owners) await put(owner, sku.id);
    const poisoned = owners[7]!.id;
    const batches: number[] = [];
    class Poisoned extends PgSavedCarts {
      override save(carts: Parameters<PgSavedCarts['save']>[0]) {
        batches.push(carts.length);
        if (carts.some((c) => c.owner.id === poisoned)) return Promise.reject(new Error('poisoned'));
        return super.save(carts);
      }
    }
    const saves = new CartSaveUsecase(one.cartStore, new Poisoned(one.db), { saveBatch: 16 });
    let saved = 0;
    const failed = new Set<string>();
    await eventually('all others are saved', async () => {
      const result = await saves.saveDue();
      assert.ok(result.claimed <= 16);
      saved += result.saved;
      for (const { owner } of result.failures) failed.add(owner.id);
      return saved === 19 || undefined;
    });
    assert.deepEqual([...failed], [poisoned]);
    assert.ok(Math.max(...batches) <= 16);
    assert.equal((await one.cartStore.backlog()).units, 1);
    await one.redis.commands.zadd('cart:due', 0, poisoned);
    await saveAll();
    assert.equal((await one.savedCarts.find(owners[7]!))?.lines.length, 1);
  });

  it('saves a cart whose saver died between any two steps', async () => {
    const owner = buyer();
    const sku = await one.sku(9n);
    const died = new Error('the process died');
    await saveAll();
    for (const step of ['findUnsaved', 'markSaved'] as const) {
      await put(owner, sku.id, { quantity: step === 'markSaved' ? 2 : 1 });
      const store = new Proxy(one.cartStore, {
        get: (target, name: keyof CartStore) =>
          name === step ? () => Promise.reject(died) : (target[name] as () => unknown).bind(target),
      });
      const dying = new CartSaveUsecase(store, one.savedCarts, { saveBatch: 50 });
      await eventually('it dies', async () => {
        const result = await dying.saveDue().catch((err) => err);
        return result === died || undefined;
      });
      // The lease of the dead saver ends.
      await one.redis.commands.zadd('cart:due', 0, owner.id);
      await saveAll(two);
    }
    assert.equal((await one.savedCarts.find(owner))?.lines[0]?.quantity, 2);
  });

  it('saves a cart whose version fell behind the saved one, as it is in Redis', async () => {
    const owner = buyer();
    const sku = await one.sku(9n);
    await put(owner, sku.id);
    await saveAll();
    await one.rows('UPDATE carts SET version = version + 1000000000000 WHERE owner_id = $1', owner.id);
    await put(owner, sku.id, { quantity: 4 });
    await saveAll();
    assert.equal((await one.savedCarts.find(owner))?.lines[0]?.quantity, 4);
  });

  describe('MergeCart', () => {
    it('moves a guest cart to the user once, in a race of both replicas and after a loss of Redis', async () => {
      const [owner, visitor] = [buyer(), guest()];
      const [a, b] = await Promise.all([one.sku(9n), one.sku(9n)]);
      await put(visitor, a.id, { quantity: 2 });
      await put(visitor, b.id);
      await put(owner, a.id);
      await saveAll();
      const results = await Promise.all([one, two, one, two].map((on) => on.carts.merge(visitor, owner.id)));
      assert.deepEqual(results.map((r) => r.mergedLines).sort(), [0, 0, 0, 2]);
      const merged = new Map([
        [a.id, 3],
        [b.id, 1],
      ]);
      assert.deepEqual(await quantities(owner), merged);
      await assert.rejects(put(visitor, a.id), isCartMerged);
      await saveAll();
      await loseRedis();
      assert.equal((await two.carts.merge(visitor, owner.id)).mergedLines, 0);
      assert.deepEqual(await quantities(owner), merged);
      assert.deepEqual(await quantities(visitor), new Map());
    });

    it('can be repeated when Redis was lost before the merge was saved: no line is lost or doubled', async () => {
      const [owner, visitor] = [buyer(), guest()];
      const sku = await one.sku(9n);
      await put(visitor, sku.id, { quantity: 2 });
      await put(owner, sku.id);
      await saveAll();
      await one.carts.merge(visitor, owner.id);
      await loseRedis();
      assert.deepEqual(await quantities(visitor), new Map([[sku.id, 2]]));
      assert.equal((await one.carts.merge(visitor, owner.id)).mergedLines, 1);
      assert.deepEqual(await quantities(owner), new Map([[sku.id, 3]]));
      await saveAll();
    });

    it('saves a merge although a saver still has the guest cart as it was before', async () => {
      const [owner, visitor] = [buyer(), guest()];
      const sku = await one.sku(9n);
      await put(visitor, sku.id);
      const before = await one.cartStore.findUnsaved([visitor]);
      await one.carts.merge(visitor, owner.id);
      await saveAll();
      const cart = before[0];
      if (!cart || cart instanceof Error) return assert.fail('the guest cart was not read');
      await one.savedCarts.save([cart]);
      await one.cartStore.markSaved([cart]);
      await loseRedis();
      assert.equal((await one.carts.merge(visitor, owner.id)).mergedLines, 0);
      assert.deepEqual(await quantities(owner), new Map([[sku.id, 1]]));
    });
  });

  describe('CheckoutCart', () => {
    const filled = async (stock = 9n) => {
      const owner = buyer();
      const [a, b] = await Promise.all([one.sku(stock), one.sku(9n)]);
      await put(owner, a.id, { quantity: 2 });
      await put(owner, b.id, { selected: false });
      return { owner, a, b };
    };

    it('orders the selected lines for what the cart said, and leaves the others', async () => {
      const { owner, a, b } = await filled();
      const { quote } = await get(owner);
      const order = await one.cartCheckouts.checkOut(wanted(owner, { expectedAmountFen: quote!.amountFen }));
      assert.deepEqual(
        [order.amountFen, order.items.map((i) => [i.skuId, i.quantity])],
        [quote!.amountFen, [[a.id, 2]]],
      );
      assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]));
      await assert.rejects(one.cartCheckouts.checkOut(wanted(owner)), isCartNothingSelected);
      await saveAll();
      assert.deepEqual(await one.rows('SELECT id FROM cart_checkouts WHERE user_id = $1', owner.id), []);
      await loseRedis();
      assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]));
    });

    it('returns the same order for a repeated request id, whatever the cart holds by then', async () => {
      const { owner, a } = await filled();
      const request = wanted(owner, { requestId: 'r1' });
      const orders = await Promise.all([one, two, one, two].map((on) => on.cartCheckouts.checkOut(request)));
      assert.equal(new Set(orders.map((o) => o.id)).size, 1);
      await put(owner, a.id);
      assert.equal((await two.cartCheckouts.checkOut(request)).id, orders[0]!.id);
      assert.deepEqual((await quantities(owner)).get(a.id), 1);
      await assert.rejects(one.cartCheckouts.checkOut({ ...request, remark: 'other' }), isRequestIdReused);
      assert.equal((await ordersOf(owner)).length, 1);
    });

    it('orders each line once in a race of checkouts with different request ids', async () => {
      for (let round = 0; round < 5; round++) {
        const { owner, b } = await filled();
        const outcomes = await Promise.allSettled(
          [one, two, one, two].map((on, i) => on.cartCheckouts.checkOut(wanted(owner, { requestId: `r${i}` }))),
        );
        const refused = outcomes.filter((o) => o.status === 'rejected');
        assert.equal(refused.length, 3);
        for (const { reason } of refused) assert.ok(isCartNothingSelected(reason), String(reason));
        assert.equal((await ordersOf(owner)).length, 1);
        assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]));
      }
    });

    it('keeps what was added to a line during the checkout, also when the line was removed', async () => {
      const { owner, a, b } = await filled();
      const store = new Proxy(one.cartStore, {
        get: (target, name: keyof CartStore) =>
          name === 'take'
            ? async (...args: Parameters<CartStore['take']>) => {
                await put(owner, a.id, { quantity: 5 }, two);
                return target.take(...args);
              }
            : (target[name] as () => unknown).bind(target),
      });
      await checkoutsWith(store).checkOut(wanted(owner));
      assert.deepEqual(
        await quantities(owner),
        new Map([
          [a.id, 3],
          [b.id, 1],
        ]),
      );
    });

    it('leaves the cart as it was when the order is refused', async () => {
      const { owner, a, b } = await filled(1n);
      const before = await one.cartStore.read(owner);
      await assert.rejects(one.cartCheckouts.checkOut(wanted(owner)), isStockInsufficient);
      await one.carts.put(owner, { skuId: a.id, quantity: 1, selected: undefined });
      await assert.rejects(one.cartCheckouts.checkOut(wanted(owner, { expectedAmountFen: 1n })), isPriceChanged);
      assert.deepEqual(
        await quantities(owner),
        new Map([
          [a.id, 1],
          [b.id, 1],
        ]),
      );
      assert.equal(before.kind, 'CART');
      assert.deepEqual(await ordersOf(owner), []);
      assert.deepEqual(await one.rows('SELECT id FROM cart_checkouts WHERE user_id = $1', owner.id), []);
    });

    /** As of a process that dies at a step of the store. */
    const checkoutsWith = (store: CartStore) => {
      const { db, goodsOrders } = one;
      const saved = new PgSavedCarts(db);
      const loader = new CartLoader(store, saved);
      return new CartCheckoutUsecase(
        store,
        saved,
        loader,
        new PgCatalogRepo(db),
        goodsOrders,
        new PgCartCheckoutRepo(db),
      );
    };
    const dyingBeforeTake = () =>
      checkoutsWith(
        new Proxy(one.cartStore, {
          get: (target, name: keyof CartStore) =>
            name === 'take'
              ? () => Promise.reject(new Error('the process died'))
              : (target[name] as () => unknown).bind(target),
        }),
      );

    it('takes the lines out once when the process dies after the order: by the next checkout, or by the background', async () => {
      for (const next of ['checkout', 'background', 'both', 'load'] as const) {
        const { owner, a, b } = await filled();
        await dyingBeforeTake().checkOut(wanted(owner, { requestId: 'r' }));
        assert.deepEqual((await quantities(owner)).get(a.id), 2, 'they have not left yet');
        await one.rows(`UPDATE cart_checkouts SET at = at - interval '1 minute' WHERE user_id = $1`, owner.id);
        if (next === 'load') {
          await saveAll();
          await loseRedis();
        }
        const steps = {
          checkout: () => assert.rejects(two.cartCheckouts.checkOut(wanted(owner)), isCartNothingSelected),
          background: () => two.cartCheckouts.closeOpen(100),
        };
        if (next === 'both')
          await Promise.all([steps.checkout(), steps.background(), one.cartCheckouts.closeOpen(100)]);
        else if (next !== 'load') await steps[next]();
        assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]), next);
        await put(owner, a.id);
        await two.cartCheckouts.closeOpen(100);
        assert.equal((await quantities(owner)).get(a.id), 1, `${next}: a line that was added later stays`);
        assert.equal((await ordersOf(owner)).length, 1);
        await saveAll();
        assert.deepEqual(await one.rows('SELECT id FROM cart_checkouts WHERE user_id = $1', owner.id), []);
      }
    });

    it('brings no ordered line back when Redis is lost before the cart was saved', async () => {
      const { owner, a, b } = await filled();
      await saveAll();
      await one.cartCheckouts.checkOut(wanted(owner));
      await loseRedis();
      assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]));
      await put(owner, a.id);
      await saveAll();
      await loseRedis();
      assert.deepEqual(
        await quantities(owner),
        new Map([
          [a.id, 1],
          [b.id, 1],
        ]),
      );
    });

    it('orders no line again when Redis went back to a time before the checkout', async () => {
      const { owner, b } = await filled();
      const keys = [`cart:${owner.id}`, `cart:${owner.id}:meta`];
      await saveAll();
      const old = await Promise.all(keys.map((key) => one.redis.commands.dumpBuffer(key)));
      const goBack = async () => {
        for (const [i, key] of keys.entries()) await one.redis.commands.restore(key, 0, old[i]!, 'REPLACE');
      };
      await one.cartCheckouts.checkOut(wanted(owner));
      await goBack();
      await assert.rejects(one.cartCheckouts.checkOut(wanted(owner)), isCartNothingSelected);
      await saveAll();
      await goBack();
      await assert.rejects(two.cartCheckouts.checkOut(wanted(owner)), isCartNothingSelected);
      assert.deepEqual(await quantities(owner), new Map([[b.id, 1]]));
      assert.equal((await ordersOf(owner)).length, 1);
    });
  });
});
