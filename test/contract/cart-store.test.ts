import assert from 'node:assert/strict';
import { type CartOwner, cartName, userCart } from '../../internal/biz/cart/cart-owner.js';
import type { CartLine } from '../../internal/biz/cart/cart-store.js';
import { RedisCartStore } from '../../internal/data/redis/cart.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { MemoryCartStore } from '../support/memory/cart.js';
import { useServers } from '../support/servers.js';
import { freshUser } from './backend.js';
import { cartStoreContract, EMPTY, redisCartStoreBackend, TTL_MS } from './cart-store.js';
import { newLine } from './saved-carts.js';

describe('the double of the carts in Redis', () => {
  let now = Date.now();
  const wait = async (ms: number) => {
    now += ms;
  };
  cartStoreContract('in memory', async () => ({
    carts: new MemoryCartStore({ saveAfterMs: 20, ttlMs: TTL_MS }, () => now),
    wait,
    expire: () => wait(TTL_MS),
  }));
});

describe('carts in Redis', () => {
  const servers = useServers('redis');
  let server: RedisServer;
  before(async () => {
    server = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await server.ready(5_000);
  });
  after(() => server?.close());

  cartStoreContract('on Redis', async () => redisCartStoreBackend(server));

  describe('RedisCartStore', () => {
    const carts = () => new RedisCartStore(server, { saveAfterMs: 20, ttlMs: TTL_MS });
    const put = (owner: CartOwner, skuId: bigint) =>
      carts().put(owner, { skuId, quantity: 2, selected: true, priceFen: 9_900n, mayAdd: true });
    const newCart = async (lines: readonly CartLine[] = []) => {
      const owner = userCart(freshUser());
      await carts().load(owner, { ...EMPTY, lines });
      return owner;
    };

    it('writes the hash that document 002 describes, with the price as a further member', async () => {
      const owner = await newCart();
      await put(owner, 1005n);
      const fields = await server.commands.hgetall(`cart:${owner.id}`);
      assert.deepEqual(Object.keys(fields), ['1005']);
      assert.match(fields['1005']!, /^\{"qty":2,"add_time":1[0-9]{9},"selected":true,"price":9900\}$/);
    });

    it('reads the line of another program without a price, and leaves out one that makes no sense', async () => {
      const owner = await newCart([newLine(1n)]);
      const foreign = { qty: 3, add_time: 1_700_000_000, selected: false };
      const broken = ['{}', 'null', '[]', 'x', '"qty"', '{"qty":-1,"add_time":1,"selected":true}', '手机'];
      await server.commands.hset(`cart:${owner.id}`, '2', JSON.stringify(foreign), 'sku', JSON.stringify(foreign));
      for (const [i, text] of broken.entries()) await server.commands.hset(`cart:${owner.id}`, String(10 + i), text);
      const read = await carts().read(owner);
      const lines = read.kind === 'CART' ? read.lines : assert.fail(read.kind);
      const two = newLine(2n, { quantity: 3, selected: false, priceFen: undefined });
      assert.deepEqual(new Set(lines), new Set([newLine(1n), two]));
      assert.equal((await put(owner, 10n)).kind, 'PUT');
    });

    it('takes keys of another type, and lines that are gone, for a cart that was lost', async () => {
      const lost: readonly ((cart: string) => Promise<unknown>)[] = [
        (cart) => server.commands.set(cart, 'x'),
        (cart) => server.commands.set(`${cart}:meta`, 'x'),
        (cart) => server.commands.del(cart),
        (cart) => server.commands.del(`${cart}:meta`),
      ];
      for (const lose of lost) {
        const owner = await newCart([newLine(1n)]);
        await lose(`cart:${owner.id}`);
        assert.equal((await carts().read(owner)).kind, 'NOT_LOADED');
        await carts().load(owner, { ...EMPTY, lines: [newLine(2n)] });
        const read = await carts().read(owner);
        assert.deepEqual(read.kind === 'CART' && read.lines, [newLine(2n)]);
      }
    });

    it('gives a saved cart its time to live again with each read', async () => {
      const owner = await newCart([newLine(1n)]);
      const keys = [`cart:${owner.id}`, `cart:${owner.id}:meta`];
      const times = () => Promise.all(keys.map((key) => server.commands.pttl(key)));
      for (const key of keys) await server.commands.pexpire(key, TTL_MS / 10);
      await carts().read(owner);
      for (const ms of await times()) assert.ok(ms > TTL_MS / 10 && ms <= TTL_MS);
      await put(owner, 2n);
      await carts().read(owner);
      assert.deepEqual(await times(), [-1, -1]);
    });

    it('saves what is listed although the lists were damaged', async () => {
      const owner = await newCart();
      await server.commands.set('cart:due', 'x');
      await put(owner, 1n);
      await server.commands.zadd('cart:unsaved', 0, 'no cart');
      await server.commands.del('cart:due');
      const names = (await carts().claimUnsaved(1_000, 60_000)).map(cartName);
      assert.ok(names.includes(owner.id));
      assert.equal(await server.commands.zscore('cart:unsaved', 'no cart'), null);
    });

    it('keeps every digit of the largest sku id', async () => {
      const owner = await newCart();
      const skuId = 2n ** 63n - 1n;
      await put(owner, skuId);
      const read = await carts().read(owner);
      assert.deepEqual(read.kind === 'CART' && read.lines.map((l) => l.skuId), [skuId]);
    });
  });
});
