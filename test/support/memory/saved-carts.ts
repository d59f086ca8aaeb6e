import type { CartOwner } from '../../../internal/biz/cart/cart-owner.js';
import { type SavedCart, SavedCarts, type UnsavedCart } from '../../../internal/biz/cart/cart-store.js';
import {
  type CartCheckout,
  CartCheckoutRepo,
  type NewCartCheckout,
  type ReadCart,
} from '../../../internal/biz/order/cart-checkout.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

interface CheckoutRow extends CartCheckout {
  readonly at: Date;
  readonly left: boolean;
  /** As if it was deleted. */
  readonly forgotten: boolean;
}

interface CartRow extends Omit<SavedCart, 'checkouts'> {
  readonly key: string;
}

export class MemoryCartCheckoutRepo extends CartCheckoutRepo {
  readonly rows: MemoryTable<CheckoutRow>;
  readonly carts: MemoryTable<CartRow>;
  private lastId = 0n;

  constructor(private readonly store: MemoryStore) {
    super();
    this.rows = new MemoryTable(store, 'cart_checkouts', (row) => String(row.id));
    this.carts = new MemoryTable(store, 'carts', (row) => row.key);
  }

  override lockUsers(tx: Transaction, carts: readonly ReadCart[]): Promise<ReadonlySet<string>> {
    return this.store.statement('cartCheckout.lockUsers', tx, async () => {
      for (const userId of [...new Set(carts.map((c) => c.userId))].sort()) {
        await this.store.lock(tx, `check out ${userId}`);
      }
      const later = carts.filter(
        ({ userId, taken }) =>
          this.kept(userId).some((row) => row.id > taken) || (this.carts.find(userId)?.taken ?? 0n) > taken,
      );
      return new Set(later.map((c) => c.userId));
    });
  }

  override insert(tx: Transaction, checkouts: readonly NewCartCheckout[]): Promise<void> {
    return this.store.statement('cartCheckout.insert', tx, async () => {
      for (const checkout of checkouts) {
        const row = { ...checkout, id: ++this.lastId, at: this.store.now(), left: false, forgotten: false };
        await this.rows.insert(tx, row);
      }
    });
  }

  override listOf(userId: string, afterId: bigint): Promise<readonly CartCheckout[]> {
    return this.store.statement('cartCheckout.listOf', undefined, async () =>
      this.kept(userId)
        .filter((row) => row.id > afterId)
        .map(checkoutOf),
    );
  }

  override listOpen(minAgeMs: number, afterId: bigint, limit: number): Promise<readonly CartCheckout[]> {
    return this.store.statement('cartCheckout.listOpen', undefined, async () =>
      this.kept()
        .filter((row) => !row.left && row.id > afterId)
        .filter((row) => row.at.getTime() < this.store.now().getTime() - minAgeMs)
        .slice(0, limit)
        .map(checkoutOf),
    );
  }

  override close(ids: readonly bigint[]): Promise<void> {
    return this.store.statement('cartCheckout.close', undefined, async (tx) => {
      for (const id of ids) await this.rows.update(tx, String(id), (row) => ({ ...row, left: true }));
    });
  }

  /** By id. */
  kept(userId?: string): CheckoutRow[] {
    return this.rows
      .rows()
      .filter((row) => !row.forgotten && (userId === undefined || row.userId === userId))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }
}

export class MemorySavedCarts extends SavedCarts {
  constructor(
    private readonly store: MemoryStore,
    private readonly checkouts: MemoryCartCheckoutRepo,
  ) {
    super();
  }

  override find(owner: CartOwner): Promise<SavedCart | undefined> {
    return this.store.statement('savedCarts.find', undefined, async () => {
      const row = this.checkouts.carts.find(keyOf(owner));
      const taken = row?.taken ?? 0n;
      const later = owner.guest ? [] : this.checkouts.kept(owner.id).filter((c) => c.id > taken);
      if (!row && later.length === 0) return undefined;
      const { version = 0n, merged = false, lines = [] } = row ?? {};
      return { version, taken, merged, lines, checkouts: later.map(checkoutOf) };
    });
  }

  override save(carts: readonly UnsavedCart[]): Promise<readonly bigint[]> {
    return this.store.statement('savedCarts.save', undefined, async (tx) => {
      const versions: bigint[] = [];
      for (const key of carts.map((c) => keyOf(c.owner)).sort()) await this.store.lock(tx, `cart ${key}`);
      const { carts: table, rows } = this.checkouts;
      const put = async (row: CartRow) => {
        if (!(await table.update(tx, row.key, () => row))) await table.insert(tx, row);
      };
      for (const { owner, version, taken, lines, merges } of carts) {
        const before = table.find(keyOf(owner), tx);
        if (before && (before.merged || before.version >= version)) {
          versions.push(before.merged ? version : before.version);
          continue;
        }
        await put({ key: keyOf(owner), version, taken, merged: false, lines });
        for (const { id } of merges) {
          const key = `guest ${id}`;
          const { version: last = 0n } = table.find(key, tx) ?? {};
          await put({ key, version: last, taken: 0n, merged: true, lines: [] });
        }
        const gone = owner.guest ? [] : this.checkouts.kept(owner.id).filter((c) => c.id <= taken);
        for (const { id } of gone) await rows.update(tx, String(id), (row) => ({ ...row, forgotten: true }));
        versions.push(version);
      }
      return versions;
    });
  }
}

function keyOf({ id, guest }: CartOwner): string {
  return guest ? `guest ${id}` : id;
}

function checkoutOf({ id, userId, orderId, lines }: CheckoutRow): CartCheckout {
  return { id, userId, orderId, lines: [...lines].map(({ skuId, quantity }) => ({ skuId, quantity })) };
}
