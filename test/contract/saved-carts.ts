import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { type CartOwner, ownerOfToken, userCart } from '../../internal/biz/cart/cart-owner.js';
import type { CartLine, UnsavedCart } from '../../internal/biz/cart/cart-store.js';
import type { NewCartCheckout } from '../../internal/biz/order/cart-checkout.js';
import { freshId, freshUser, latch, type OpenBackend, useBackend } from './backend.js';

const ADDED = new Date(1_700_000_000_000);

export function newLine(skuId: bigint, change: Partial<CartLine> = {}): CartLine {
  return { skuId, quantity: 2, selected: true, addedAt: ADDED, priceFen: 9_900n, ...change };
}

export function newGuest(expiresMs = Date.now() + 60_000): CartOwner {
  return ownerOfToken(`1.${expiresMs}.${randomUUID()}.${'s'.repeat(43)}`)!;
}

export function savedCartsContract(name: string, open: OpenBackend): void {
  describe(`SavedCarts and CartCheckoutRepo ${name}`, () => {
    const backend = useBackend(open);
    const save = (owner: CartOwner, change: Partial<UnsavedCart>) =>
      backend.it.savedCarts.save([
        { owner, version: 1n, savedVersion: 0n, taken: 0n, merges: [], lines: [], ...change },
      ]);
    const linesOf = async (owner: CartOwner) => (await backend.it.savedCarts.find(owner))?.lines;
    const checkOut = (...checkouts: NewCartCheckout[]) =>
      backend.it.transactions.run((tx) => backend.it.cartCheckouts.insert(tx, checkouts));
    const checkout = (userId: string, skuId = 1n): NewCartCheckout => ({
      ...{ userId, orderId: freshId(), lines: [{ skuId, quantity: 1 }] },
    });

    it('finds what was saved, also of a cart that was emptied', async () => {
      const [owner, other] = [userCart(freshUser()), userCart(freshUser())];
      const lines = [
        newLine(freshId()),
        newLine(freshId(), { selected: false, quantity: 10_000, priceFen: undefined }),
      ];
      assert.equal(await backend.it.savedCarts.find(owner), undefined);
      assert.deepEqual(await save(owner, { version: 5n, lines }), [5n]);
      const saved = await backend.it.savedCarts.find(owner);
      assert.deepEqual(saved && { ...saved, lines: new Set(saved.lines) }, {
        ...{ version: 5n, taken: 0n, merged: false, checkouts: [] },
        lines: new Set(lines),
      });
      await save(owner, { version: 6n });
      assert.deepEqual(await linesOf(owner), []);
      assert.equal(await backend.it.savedCarts.find(other), undefined);
    });

    it('replaces lines by those of a higher version, and by those of no lower or equal one', async () => {
      const owner = userCart(freshUser());
      const [a, b] = [freshId(), freshId()];
      await save(owner, { version: 5n, lines: [newLine(a), newLine(b)] });
      assert.deepEqual(await save(owner, { version: 5n, lines: [] }), [5n]);
      assert.deepEqual(await save(owner, { version: 4n, lines: [] }), [5n]);
      assert.equal((await linesOf(owner))?.length, 2);
      assert.deepEqual(await save(owner, { version: 6n, lines: [newLine(b, { quantity: 7 })] }), [6n]);
      assert.deepEqual(await linesOf(owner), [newLine(b, { quantity: 7 })]);
    });

    it('keeps no line of the cart that the slower of two savers had', async () => {
      const owner = userCart(freshUser());
      const rounds = Array.from({ length: 20 }, (_, i) => BigInt(i + 1));
      await Promise.all(
        rounds.map((version) => save(owner, { version, lines: [newLine(version), newLine(version + 100n)] })),
      );
      const saved = await backend.it.savedCarts.find(owner);
      assert.equal(saved?.version, 20n);
      assert.deepEqual(saved.lines.map((l) => l.skuId).sort(), [120n, 20n]);
    });

    it('keeps the cart of a guest apart from that of a user with the same id', async () => {
      const guest = newGuest();
      await save(guest, { lines: [newLine(1n)] });
      assert.equal(await backend.it.savedCarts.find(userCart(guest.id)), undefined);
      assert.deepEqual(await linesOf(guest), [newLine(1n)]);
    });

    it('saves many carts together, each by its own version', async () => {
      const owners = [userCart(freshUser()), newGuest(), userCart(freshUser())];
      await save(owners[1]!, { version: 9n, lines: [newLine(3n)] });
      const carts = owners.map((owner, i) => ({
        ...{ owner, version: 5n, savedVersion: 0n, taken: 0n, merges: [], lines: [newLine(BigInt(i + 1))] },
      }));
      assert.deepEqual(await backend.it.savedCarts.save(carts), [5n, 9n, 5n]);
      assert.deepEqual(await Promise.all(owners.map(async (o) => (await linesOf(o))?.[0]?.skuId)), [1n, 3n, 3n]);
    });

    it('marks guest carts that were merged with the cart that has their lines, and saves no line of them later', async () => {
      const [guest, unknown, user] = [newGuest(), newGuest(), userCart(freshUser())];
      await save(guest, { version: 5n, lines: [newLine(1n)] });
      const merges = [guest, unknown].map(({ id, guest: token }) => ({ id, expiresAt: token!.expiresAt }));
      await save(user, { version: 6n, lines: [newLine(1n)], merges });
      for (const merged of [guest, unknown]) {
        const saved = await backend.it.savedCarts.find(merged);
        assert.deepEqual([saved?.merged, saved?.lines], [true, []]);
        assert.deepEqual(await save(merged, { version: 7n, lines: [newLine(2n)] }), [7n]);
        assert.deepEqual(await linesOf(merged), []);
      }
    });

    it('finds checkouts with the cart until it was saved without their lines', async () => {
      const userId = freshUser();
      const owner = userCart(userId);
      const first = checkout(userId, 7n);
      await checkOut(first);
      const [stored] = await backend.it.cartCheckouts.listOf(userId, 0n);
      assert.deepEqual(stored, { id: stored!.id, ...first });
      assert.deepEqual(await backend.it.savedCarts.find(owner), {
        ...{ version: 0n, taken: 0n, merged: false, lines: [], checkouts: [stored] },
      });
      await save(owner, { version: 1n, lines: [newLine(7n)] });
      assert.equal((await backend.it.savedCarts.find(owner))?.checkouts.length, 1);
      await save(owner, { version: 2n, taken: stored!.id });
      assert.deepEqual(await backend.it.savedCarts.find(owner), {
        ...{ version: 2n, taken: stored!.id, merged: false, lines: [], checkouts: [] },
      });
      assert.deepEqual(await backend.it.cartCheckouts.listOf(userId, 0n), []);
    });

    it('lists open checkouts of some age by id, and no longer after they were closed', async () => {
      const users = [freshUser(), freshUser(), freshUser()];
      await checkOut(...users.map((userId) => checkout(userId)));
      const mine = async (minAgeMs: number, afterId = 0n, limit = 1_000) =>
        (await backend.it.cartCheckouts.listOpen(minAgeMs, afterId, limit)).filter((c) => users.includes(c.userId));
      assert.deepEqual(await mine(60_000), []);
      const open = await mine(-1_000);
      assert.deepEqual(open.map((c) => c.userId).sort(), [...users].sort());
      assert.deepEqual(
        open.map((c) => c.id),
        open.map((c) => c.id).sort((a, b) => (a < b ? -1 : 1)),
      );
      assert.deepEqual(await mine(-1_000, open[1]!.id, 1), [open[2]]);
      await backend.it.cartCheckouts.close([open[0]!.id, open[2]!.id]);
      assert.deepEqual(await mine(-1_000), [open[1]]);
      assert.equal((await backend.it.cartCheckouts.listOf(open[0]!.userId, 0n)).length, 1, 'kept until it is saved');
    });

    it('tells a second checkout of a cart to read it again: when the first has committed, was closed, and was saved', async () => {
      const userId = freshUser();
      const { transactions, cartCheckouts } = backend.it;
      const outdated = async (taken = 0n) =>
        (await transactions.run((tx) => cartCheckouts.lockUsers(tx, [{ userId, taken }]))).has(userId);
      assert.equal(await outdated(), false);
      const [locked, mayCommit] = [latch(), latch()];
      const first = transactions.run(async (tx) => {
        await cartCheckouts.lockUsers(tx, [{ userId, taken: 0n }]);
        locked.open();
        await mayCommit.opened;
        await cartCheckouts.insert(tx, [checkout(userId)]);
      });
      await locked.opened;
      const second = outdated();
      mayCommit.open();
      await first;
      assert.equal(await second, true);
      const { id } = (await cartCheckouts.listOf(userId, 0n))[0]!;
      assert.equal(await outdated(id), false);
      await cartCheckouts.close([id]);
      assert.equal(await outdated(), true);
      await save(userCart(userId), { taken: id });
      assert.equal(await outdated(), true);
      assert.equal(await outdated(id), false);
    });
  });
}
