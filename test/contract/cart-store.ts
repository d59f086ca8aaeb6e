import assert from 'node:assert/strict';
import { type CartOwner, cartName, userCart } from '../../internal/biz/cart/cart-owner.js';
import {
  type CartCopy,
  type CartStore,
  LINES_MAX,
  type PutTerms,
  type UnsavedCart,
} from '../../internal/biz/cart/cart-store.js';
import { RedisCartStore } from '../../internal/data/redis/cart.js';
import type { RedisServer } from '../../internal/data/redis/redis.js';
import { freshUser } from './backend.js';
import { newGuest, newLine } from './saved-carts.js';

export const TTL_MS = 60_000;
export const EMPTY: CartCopy = { version: 0n, taken: 0n, merged: false, changed: false, lines: [] };

export interface CartStoreBackend {
  readonly carts: CartStore;
  /** Lets the time pass for carts that wait to be saved. */
  wait(ms: number): Promise<void>;
  /** Lets the time to live pass, for carts that have one. */
  expire(owners: readonly CartOwner[]): Promise<void>;
}

export function cartStoreContract(name: string, open: () => Promise<CartStoreBackend>): void {
  describe(`CartStore ${name}`, () => {
    let backend: CartStoreBackend;
    let carts: CartStore;
    before(async () => {
      backend = await open();
      carts = backend.carts;
    });
    // What one test has left to be saved must not be claimed by another.
    afterEach(async () => {
      await backend.wait(30);
      for (;;) {
        const owners = await carts.claimUnsaved(1_000, 60_000);
        if (owners.length === 0) return;
        const found = await carts.findUnsaved(owners);
        await carts.markSaved(
          found.filter((cart): cart is UnsavedCart => cart !== undefined && !(cart instanceof Error)),
        );
      }
    });

    const newCart = async (copy: Partial<CartCopy> = {}, owner = userCart(freshUser())) => {
      await carts.load(owner, { ...EMPTY, ...copy });
      return owner;
    };
    const terms = (skuId: bigint, change: Partial<PutTerms> = {}): PutTerms => ({
      ...{ skuId, quantity: undefined, selected: undefined, priceFen: 500n, mayAdd: true, ...change },
    });
    const cartOf = async (owner: CartOwner) => {
      const cart = await carts.read(owner);
      return cart.kind === 'CART' ? cart : assert.fail(cart.kind);
    };
    const quantities = async (owner: CartOwner) =>
      new Map((await cartOf(owner)).lines.map((l) => [l.skuId, l.quantity]));
    const unsaved = async (owner: CartOwner) => {
      const [cart] = await carts.findUnsaved([owner]);
      return cart && !(cart instanceof Error) ? cart : assert.fail('it cannot be read');
    };
    const claim = async (limit = 100, leaseMs = 60_000) => {
      await backend.wait(30);
      return (await carts.claimUnsaved(limit, leaseMs)).map(cartName);
    };

    it('knows a cart without lines from one that it does not have', async () => {
      const owner = userCart(freshUser());
      for (const attempt of [
        () => carts.read(owner),
        () => carts.put(owner, terms(1n)),
        () => carts.remove(owner),
        () => carts.take(owner, { id: 1n, userId: owner.id, orderId: 1n, lines: [{ skuId: 1n, quantity: 1 }] }),
        () => carts.merge(newGuest(), owner),
      ]) {
        assert.equal((await attempt()).kind, 'NOT_LOADED');
      }
      await newCart({}, owner);
      assert.deepEqual((await cartOf(owner)).lines, []);
      await carts.put(owner, terms(1n));
      await carts.remove(owner);
      assert.deepEqual((await cartOf(owner)).lines, []);
    });

    it('adds a line with one selected unit, and changes the fields that are given', async () => {
      const owner = await newCart();
      const added = await carts.put(owner, terms(7n));
      const line = added.kind === 'PUT' ? added.line : assert.fail(added.kind);
      assert.deepEqual({ ...line, addedAt: 0 }, { ...newLine(7n), quantity: 1, priceFen: 500n, addedAt: 0 });
      assert.ok(Math.abs(line.addedAt.getTime() - Date.now()) < 3_600_000);
      await carts.put(owner, terms(7n, { quantity: 10_000, priceFen: 900n }));
      await carts.put(owner, terms(7n, { selected: false, mayAdd: false }));
      assert.deepEqual((await cartOf(owner)).lines, [{ ...line, quantity: 10_000, selected: false }]);
    });

    it('raises the version with each change, and with nothing else', async () => {
      const owner = await newCart({ version: 5n });
      const version = async () => (await cartOf(owner)).version;
      assert.equal(await version(), 5n);
      await carts.put(owner, terms(7n, { quantity: 3 }));
      const changed = await version();
      assert.ok(changed > 5n);
      await carts.put(owner, terms(7n, { quantity: 3, selected: true }));
      await carts.remove(owner, [8n]);
      assert.equal(await version(), changed);
      await carts.remove(owner, [7n]);
      assert.ok((await version()) > changed);
    });

    it('adds no line that may not be added, and none beyond the limit', async () => {
      const owner = await newCart();
      assert.deepEqual(await carts.put(owner, terms(1n, { mayAdd: false })), { kind: 'NO_LINE' });
      for (let skuId = 1n; skuId <= LINES_MAX; skuId++) await carts.put(owner, terms(skuId));
      assert.deepEqual(await carts.put(owner, terms(101n)), { kind: 'FULL' });
      assert.equal((await carts.put(owner, terms(100n, { quantity: 2 }))).kind, 'PUT');
      await carts.remove(owner, [1n, 2n]);
      assert.equal((await carts.put(owner, terms(101n))).kind, 'PUT');
      assert.equal((await cartOf(owner)).lines.length, 99);
    });

    it('keeps one line of each sku in a race of puts', async () => {
      const owner = await newCart({ lines: Array.from({ length: 99 }, (_, i) => newLine(BigInt(i + 1))) });
      const outcomes = await Promise.all(
        Array.from({ length: 20 }, (_, i) => carts.put(owner, terms(BigInt(200 + i)))),
      );
      assert.equal(outcomes.filter((o) => o.kind === 'PUT').length, 1);
      assert.equal(outcomes.filter((o) => o.kind === 'FULL').length, 19);
    });

    it('takes the units of a checkout once, and keeps what was added meanwhile', async () => {
      const owner = await newCart({ lines: [newLine(1n), newLine(2n, { quantity: 5 }), newLine(3n)] });
      const lines = [
        { skuId: 1n, quantity: 2 },
        { skuId: 2n, quantity: 2 },
        { skuId: 9n, quantity: 1 },
      ];
      const checkout = { id: 4n, userId: owner.id, orderId: 1n, lines };
      for (let i = 0; i < 2; i++) await carts.take(owner, checkout);
      await carts.take(owner, { ...checkout, id: 3n });
      assert.deepEqual(
        await quantities(owner),
        new Map([
          [2n, 3],
          [3n, 2],
        ]),
      );
      assert.equal((await cartOf(owner)).taken, 4n);
      await carts.take(owner, { ...checkout, id: 5n });
      assert.deepEqual(
        await quantities(owner),
        new Map([
          [2n, 1],
          [3n, 2],
        ]),
      );
    });

    it('merges a guest cart once, however many do it at once, and adds up to the limit', async () => {
      const guest = await newCart({ lines: [newLine(1n, { quantity: 9_999 }), newLine(2n)] }, newGuest());
      const user = await newCart({ lines: [newLine(1n, { selected: false })] });
      const results = await Promise.all(Array.from({ length: 5 }, () => carts.merge(guest, user)));
      const nothing = { kind: 'MERGED', mergedLines: 0, capped: [], dropped: [] } as const;
      assert.deepEqual(results, [{ ...nothing, mergedLines: 2, capped: [1n] }, nothing, nothing, nothing, nothing]);
      assert.deepEqual(
        await quantities(user),
        new Map([
          [1n, 10_000],
          [2n, 2],
        ]),
      );
      assert.ok((await cartOf(user)).lines.every((l) => l.selected));
      assert.deepEqual((await cartOf(guest)).lines, []);
      assert.deepEqual(await carts.put(guest, terms(1n)), { kind: 'MERGED' });
      assert.deepEqual(await carts.merge(guest, await newCart()), nothing);
      const merges = [{ id: guest.id, expiresAt: guest.guest!.expiresAt }];
      assert.deepEqual((await unsaved(user)).merges, merges);
      assert.deepEqual(await carts.findUnsaved([guest]), [undefined]);
    });

    it('drops the oldest lines of a guest cart that the cart of the user has no room for', async () => {
      const added = (s: number) => ({ addedAt: new Date(s * 1_000) });
      const guest = await newCart(
        { lines: [newLine(201n, added(1)), newLine(202n, added(2)), newLine(1n)] },
        newGuest(),
      );
      const user = await newCart({ lines: Array.from({ length: 99 }, (_, i) => newLine(BigInt(i + 1))) });
      const result = await carts.merge(guest, user);
      assert.deepEqual(result, { kind: 'MERGED', mergedLines: 2, capped: [], dropped: [201n] });
      assert.deepEqual([(await quantities(user)).get(1n), (await quantities(user)).get(202n)], [4, 2]);
    });

    it('leaves an empty guest cart as it is', async () => {
      const [guest, user] = [await newCart({}, newGuest()), await newCart()];
      assert.equal(((await carts.merge(guest, user)) as { mergedLines: number }).mergedLines, 0);
      assert.equal((await carts.put(guest, terms(1n))).kind, 'PUT');
    });

    it('loads nothing over a cart that is there, unless it has the version that was read', async () => {
      const owner = await newCart({ version: 5n, lines: [newLine(1n)] });
      await newCart({ version: 6n, lines: [] }, owner);
      assert.equal((await cartOf(owner)).lines.length, 1);
      await carts.load(owner, { ...EMPTY, version: 6n }, 4n);
      assert.equal((await cartOf(owner)).lines.length, 1);
      await carts.load(owner, { ...EMPTY, version: 6n, taken: 3n }, 5n);
      assert.deepEqual(await cartOf(owner), { kind: 'CART', version: 6n, taken: 3n, lines: [] });
    });

    it('keeps a merged guest cart closed when it is loaded again', async () => {
      const guest = await newCart({ merged: true }, newGuest());
      assert.deepEqual(await carts.put(guest, terms(1n)), { kind: 'MERGED' });
    });

    it('gives each cart that has changed to one saver at a time, and again after the lease', async () => {
      const owners = await Promise.all(Array.from({ length: 5 }, () => newCart()));
      assert.deepEqual(await claim(), []);
      for (const owner of owners) for (const skuId of [1n, 2n]) await carts.put(owner, terms(skuId));
      assert.equal((await carts.backlog()).units, 5);
      const first = await claim(3, 30_000);
      const second = await claim(3, 60_000);
      assert.deepEqual([...first, ...second].sort(), owners.map(cartName).sort());
      await backend.wait(30_000);
      assert.deepEqual((await claim()).sort(), [...first].sort());
      assert.ok((await carts.backlog()).oldestAgeMs >= 30_000);
    });

    it('lists a cart that a load had to change', async () => {
      const owner = await newCart({ version: 5n, changed: true, lines: [newLine(1n)] });
      assert.deepEqual(await claim(), [cartName(owner)]);
      const cart = await unsaved(owner);
      assert.equal(cart.savedVersion, 5n);
      assert.ok(cart.version > 5n);
    });

    it('forgets a cart that was saved, and keeps one that has changed since it was read', async () => {
      const [same, changed] = [await newCart(), await newCart()];
      for (const owner of [same, changed]) await carts.put(owner, terms(1n));
      await claim();
      const found = [await unsaved(same), await unsaved(changed)];
      await carts.put(changed, terms(2n));
      await carts.markSaved(found);
      assert.deepEqual(await claim(), [cartName(changed)]);
      const { version, savedVersion } = await unsaved(same);
      assert.equal(savedVersion, version);
      assert.equal((await unsaved(changed)).savedVersion, found[1]!.version);
    });

    it('keeps merges that came after the cart was read', async () => {
      const user = await newCart();
      const guests = [newGuest(), newGuest()];
      for (const guest of guests) await newCart({ lines: [newLine(1n)] }, guest);
      await carts.merge(guests[0]!, user);
      const read = await unsaved(user);
      await carts.merge(guests[1]!, user);
      await carts.markSaved([read]);
      const left = await unsaved(user);
      assert.deepEqual(
        left.merges.map((m) => m.id),
        [guests[1]!.id],
      );
      await carts.markSaved([left]);
      assert.deepEqual((await unsaved(user)).merges, []);
    });

    it('raises a version that fell behind above the one that is saved', async () => {
      const owner = await newCart({ version: 5n });
      await carts.put(owner, terms(1n));
      const savedVersion = (await unsaved(owner)).version + 1_000_000_000_000n;
      await claim();
      await carts.raiseVersions([{ owner, savedVersion }]);
      assert.deepEqual(await claim(), [cartName(owner)]);
      assert.ok((await unsaved(owner)).version > savedVersion);
    });

    it('drops a saved cart after its time to live, and none that is not saved', async () => {
      const [saved, waiting] = [await newCart(), await newCart()];
      for (const owner of [saved, waiting]) await carts.put(owner, terms(1n));
      await carts.markSaved([await unsaved(saved)]);
      await backend.expire([saved, waiting]);
      assert.equal((await carts.read(saved)).kind, 'NOT_LOADED');
      assert.equal((await carts.read(waiting)).kind, 'CART');
    });
  });
}

/** Carts on a server whose keys a test changes to let time pass. */
export function redisCartStoreBackend(server: RedisServer): CartStoreBackend {
  const { commands: redis, keys } = server;
  return {
    carts: new RedisCartStore(server, { saveAfterMs: 20, ttlMs: TTL_MS }),
    wait: async (ms) => {
      for (const key of [`${keys.carts}unsaved`, `${keys.carts}due`]) {
        for (const name of await redis.zrange(key, '0', '-1')) await redis.zincrby(key, -ms, name);
      }
    },
    expire: async (owners) => {
      for (const owner of owners) {
        for (const key of [`${keys.carts}${cartName(owner)}`, `${keys.carts}${cartName(owner)}:meta`]) {
          if ((await redis.pttl(key)) >= 0) await redis.pexpire(key, 0);
        }
      }
    },
  };
}
