import { type CartOwner, cartName } from '../../../internal/biz/cart/cart-owner.js';
import {
  type CartBacklog,
  type CartCopy,
  type CartLine,
  CartStore,
  type CartTimes,
  LINES_MAX,
  type MergedGuest,
  type MergeResult,
  type NotLoaded,
  type PutResult,
  type PutTerms,
  QUANTITY_MAX,
  type UnsavedCart,
  type WorkingCart,
} from '../../../internal/biz/cart/cart-store.js';
import type { CartCheckout } from '../../../internal/biz/order/cart-checkout.js';

interface Entry {
  readonly owner: CartOwner;
  version: bigint;
  saved: bigint;
  taken: bigint;
  merged: boolean;
  merges: MergedGuest[];
  readonly lines: Map<bigint, CartLine>;
  expiresMs: number;
}

/** The scripts `cart_*.lua` in TypeScript. */
export class MemoryCartStore extends CartStore {
  private carts = new Map<string, Entry>();
  private unsaved = new Map<string, { readonly owner: CartOwner; sinceMs: number; dueMs: number }>();

  constructor(
    private readonly times: CartTimes,
    private readonly now: () => number = Date.now,
  ) {
    super();
  }

  /** Redis loses everything. */
  flush(): void {
    this.carts = new Map();
    this.unsaved = new Map();
  }

  override async read(owner: CartOwner): Promise<({ readonly kind: 'CART' } & WorkingCart) | NotLoaded> {
    const cart = this.find(owner);
    if (!cart) return { kind: 'NOT_LOADED', owner };
    if (cart.version === cart.saved && !cart.merged) cart.expiresMs = this.now() + this.times.ttlMs;
    return { kind: 'CART', version: cart.version, taken: cart.taken, lines: [...cart.lines.values()] };
  }

  override async put(owner: CartOwner, terms: PutTerms): Promise<PutResult | NotLoaded> {
    const cart = this.find(owner);
    if (!cart) return { kind: 'NOT_LOADED', owner };
    if (cart.merged) return { kind: 'MERGED' };
    const { skuId, quantity, selected, priceFen, mayAdd } = terms;
    const stored = cart.lines.get(skuId);
    if (!stored && !mayAdd) return { kind: 'NO_LINE' };
    if (!stored && cart.lines.size >= LINES_MAX) return { kind: 'FULL' };
    const addedAt = new Date(Math.floor(this.now() / 1_000) * 1_000);
    const before = stored ?? { skuId, quantity: 1, selected: true, addedAt, priceFen };
    const line = {
      ...before,
      quantity: quantity ?? before.quantity,
      selected: selected ?? before.selected,
      priceFen: before.priceFen ?? priceFen,
    };
    const same = line.quantity === stored?.quantity && line.selected === stored.selected;
    if (!same) {
      cart.lines.set(skuId, line);
      this.changed(cart);
    }
    return { kind: 'PUT', line };
  }

  override async remove(
    owner: CartOwner,
    skuIds?: readonly bigint[],
  ): Promise<{ readonly kind: 'REMOVED' } | NotLoaded> {
    const cart = this.find(owner);
    if (!cart) return { kind: 'NOT_LOADED', owner };
    const gone = (skuIds ?? [...cart.lines.keys()]).filter((skuId) => cart.lines.delete(skuId));
    if (gone.length > 0) this.changed(cart);
    return { kind: 'REMOVED' };
  }

  override async take(owner: CartOwner, { id, lines }: CartCheckout): Promise<{ readonly kind: 'TAKEN' } | NotLoaded> {
    const cart = this.find(owner);
    if (!cart) return { kind: 'NOT_LOADED', owner };
    if (cart.taken >= id) return { kind: 'TAKEN' };
    for (const { skuId, quantity } of lines) {
      const line = cart.lines.get(skuId);
      if (line && line.quantity > quantity) cart.lines.set(skuId, { ...line, quantity: line.quantity - quantity });
      else cart.lines.delete(skuId);
    }
    cart.taken = id;
    this.changed(cart);
    return { kind: 'TAKEN' };
  }

  override async merge(guest: CartOwner, user: CartOwner): Promise<MergeResult | NotLoaded> {
    const [from, to] = [this.find(guest), this.find(user)];
    if (!from) return { kind: 'NOT_LOADED', owner: guest };
    if (!to) return { kind: 'NOT_LOADED', owner: user };
    const capped: bigint[] = [];
    const dropped: bigint[] = [];
    if (from.merged || from.lines.size === 0) return { kind: 'MERGED', mergedLines: 0, capped, dropped };
    const newest = [...from.lines.values()].sort(
      (a, b) => b.addedAt.getTime() - a.addedAt.getTime() || (String(a.skuId) < String(b.skuId) ? -1 : 1),
    );
    for (const line of newest) {
      const there = to.lines.get(line.skuId);
      if (!there && to.lines.size >= LINES_MAX) {
        dropped.push(line.skuId);
        continue;
      }
      const units = (there?.quantity ?? 0) + line.quantity;
      if (units > QUANTITY_MAX) capped.push(line.skuId);
      const selected = line.selected || there?.selected === true;
      to.lines.set(line.skuId, { ...(there ?? line), selected, quantity: Math.min(units, QUANTITY_MAX) });
    }
    const mergedLines = from.lines.size - dropped.length;
    const expiresAt = guest.guest?.expiresAt ?? new Date(0);
    to.merges = [...to.merges, { id: guest.id, expiresAt }];
    this.changed(to);
    from.merged = true;
    from.lines.clear();
    from.expiresMs = expiresAt.getTime();
    this.unsaved.delete(cartName(guest));
    return { kind: 'MERGED', mergedLines, capped, dropped };
  }

  override async load(owner: CartOwner, copy: CartCopy, replaced?: bigint): Promise<void> {
    const there = this.find(owner);
    if (there && there.version !== replaced) return;
    const { version, taken, merged, changed, lines } = copy;
    const cart: Entry = {
      ...{ owner, version, saved: version, taken, merged, merges: [], expiresMs: this.now() + this.times.ttlMs },
      lines: new Map(lines.map((line) => [line.skuId, line])),
    };
    this.carts.set(cartName(owner), cart);
    this.unsaved.delete(cartName(owner));
    if (changed) this.changed(cart, 0);
  }

  override async claimUnsaved(limit: number, leaseMs: number): Promise<readonly CartOwner[]> {
    const due = [...this.unsaved.values()].filter((u) => u.dueMs <= this.now()).sort((a, b) => a.dueMs - b.dueMs);
    const claimed = due.slice(0, limit);
    for (const entry of claimed) entry.dueMs = this.now() + leaseMs;
    return claimed.map((entry) => entry.owner);
  }

  override async findUnsaved(owners: readonly CartOwner[]): Promise<readonly (UnsavedCart | undefined)[]> {
    return owners.map((owner) => {
      const cart = this.find(owner);
      if (!cart || cart.merged) return undefined;
      const { version, saved: savedVersion, taken, merges, lines } = cart;
      return { owner, version, savedVersion, taken, merges: [...merges], lines: [...lines.values()] };
    });
  }

  override async markSaved(carts: readonly UnsavedCart[]): Promise<void> {
    for (const { owner, version, merges } of carts) {
      const name = cartName(owner);
      const cart = this.find(owner);
      if (!cart) {
        this.unsaved.delete(name);
        continue;
      }
      cart.saved = version;
      cart.merges = cart.merges.filter((m) => !merges.some((s) => s.id === m.id));
      const entry = this.unsaved.get(name);
      if (cart.version !== version) {
        if (entry) Object.assign(entry, { sinceMs: this.now(), dueMs: this.now() + this.times.saveAfterMs / 2 });
        continue;
      }
      this.unsaved.delete(name);
      if (!cart.merged) cart.expiresMs = this.now() + this.times.ttlMs;
    }
  }

  override async raiseVersions(
    carts: readonly { readonly owner: CartOwner; readonly savedVersion: bigint }[],
  ): Promise<void> {
    for (const { owner, savedVersion } of carts) {
      const cart = this.find(owner);
      if (!cart) continue;
      if (cart.version < savedVersion) cart.version = savedVersion;
      this.unsaved.delete(cartName(owner));
      this.changed(cart, 0);
    }
  }

  override async backlog(): Promise<CartBacklog> {
    const since = [...this.unsaved.values()].map((u) => u.sinceMs);
    return { units: since.length, oldestAgeMs: since.length === 0 ? 0 : this.now() - Math.min(...since) };
  }

  private find(owner: CartOwner): Entry | undefined {
    const name = cartName(owner);
    const cart = this.carts.get(name);
    if (!cart || cart.expiresMs > this.now()) return cart;
    this.carts.delete(name);
    return undefined;
  }

  private changed(cart: Entry, delayMs = this.times.saveAfterMs / 2): void {
    const time = BigInt(this.now()) * 1_000n;
    cart.version = time > cart.version ? time : cart.version + 1n;
    cart.expiresMs = Number.POSITIVE_INFINITY;
    const name = cartName(cart.owner);
    if (this.unsaved.has(name)) return;
    this.unsaved.set(name, { owner: cart.owner, sinceMs: this.now(), dueMs: this.now() + delayMs });
  }
}
