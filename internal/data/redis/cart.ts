import { type CartOwner, cartName, ownerOfName } from '../../biz/cart/cart-owner.js';
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
} from '../../biz/cart/cart-store.js';
import { INT64_MAX } from '../../biz/int64.js';
import type { CartCheckout } from '../../biz/order/cart-checkout.js';
import {
  CART_CLAIM,
  CART_LOAD,
  CART_MERGE,
  CART_PUT,
  CART_READ,
  CART_REMOVE,
  CART_SAVED,
  CART_TAKE,
} from './lua-script.js';
import { asUnavailable, orUnavailable, type RedisServer } from './redis.js';

/** Scripts of carts that are under way at a time for one call of a saver. */
const PIPELINE = 100;

interface CartKeys {
  readonly cart: string;
  readonly meta: string;
  readonly unsaved: string;
  readonly due: string;
}

/** Carts in hashes `cart:<user_id>` and `cart:guest:<token>`, changed by the scripts `cart_*.lua`. */
export class RedisCartStore extends CartStore {
  private readonly ttl: string;
  /** Half the time, so that changes that follow soon are saved together, and the other half is left for saving. */
  private readonly delay: string;

  constructor(
    private readonly redis: RedisServer,
    { saveAfterMs, ttlMs }: CartTimes,
  ) {
    super();
    this.ttl = String(Math.ceil(ttlMs));
    this.delay = String(Math.ceil(saveAfterMs / 2));
  }

  private get unsaved(): string {
    return `${this.redis.keys.carts}unsaved`;
  }

  private get due(): string {
    return `${this.redis.keys.carts}due`;
  }

  override async read(owner: CartOwner): Promise<({ readonly kind: 'CART' } & WorkingCart) | NotLoaded> {
    const found = await orUnavailable(this.readCart(owner, this.ttl));
    if (!found) return { kind: 'NOT_LOADED', owner };
    const { version, taken, lines } = found;
    return { kind: 'CART', version, taken, lines };
  }

  override async put(owner: CartOwner, terms: PutTerms): Promise<PutResult | NotLoaded> {
    const { skuId, quantity, selected, priceFen, mayAdd } = terms;
    const chosen = selected === undefined ? '' : selected ? '1' : '0';
    const amount = quantity === undefined ? '' : String(quantity);
    const args = [String(LINES_MAX), String(skuId), amount, chosen, String(priceFen), mayAdd ? '1' : '0'];
    const keys = this.keys(owner);
    const reply = CART_PUT.run(this.redis.commands, keys, [cartName(owner), this.delay, ...args]);
    const [kind, text] = (await orUnavailable(reply)) as [string, string];
    switch (kind) {
      case 'NOT_LOADED':
        return { kind, owner };
      case 'PUT': {
        const line = lineOf(String(skuId), text);
        if (!line) throw new Error(`cart_put stored ${text}`);
        return { kind, line };
      }
      case 'NO_LINE':
      case 'FULL':
      case 'MERGED':
        return { kind };
      default:
        throw new Error(`cart_put answered ${kind}`);
    }
  }

  override async remove(
    owner: CartOwner,
    skuIds: readonly bigint[] = [],
  ): Promise<{ readonly kind: 'REMOVED' } | NotLoaded> {
    const args = [cartName(owner), this.delay, ...skuIds.map(String)];
    const [kind] = (await orUnavailable(CART_REMOVE.run(this.redis.commands, this.keys(owner), args))) as [string];
    return kind === 'NOT_LOADED' ? { kind, owner } : { kind: 'REMOVED' };
  }

  override async take(owner: CartOwner, { id, lines }: CartCheckout): Promise<{ readonly kind: 'TAKEN' } | NotLoaded> {
    const units = lines.flatMap(({ skuId, quantity }) => [String(skuId), String(quantity)]);
    const args = [cartName(owner), this.delay, String(id), ...units];
    const [kind] = (await orUnavailable(CART_TAKE.run(this.redis.commands, this.keys(owner), args))) as [string];
    return kind === 'NOT_LOADED' ? { kind, owner } : { kind: 'TAKEN' };
  }

  override async merge(guest: CartOwner, user: CartOwner): Promise<MergeResult | NotLoaded> {
    const { cart: guestCart, meta: guestMeta } = this.keys(guest);
    const expiresMs = String(guest.guest?.expiresAt.getTime());
    const args = [cartName(guest), cartName(user), this.delay, String(LINES_MAX), guest.id, expiresMs];
    const keys = { guestCart, guestMeta, ...this.keys(user) };
    const reply = await orUnavailable(CART_MERGE.run(this.redis.commands, keys, args));
    const [kind, lines, capped, dropped] = reply as [string, number | string, string[], string[]];
    if (kind === 'NOT_LOADED') return { kind, owner: lines === 'guest' ? guest : user };
    return { kind: 'MERGED', mergedLines: Number(lines), capped: capped.map(BigInt), dropped: dropped.map(BigInt) };
  }

  override async load(owner: CartOwner, copy: CartCopy, replaced?: bigint): Promise<void> {
    const { version, taken, merged, changed, lines } = copy;
    const args = [
      ...[cartName(owner), this.ttl, String(version), String(taken), merged ? '1' : '0', changed ? '1' : '0'],
      replaced === undefined ? '' : String(replaced),
      ...lines.flatMap((line) => [String(line.skuId), textOf(line)]),
    ];
    await orUnavailable(CART_LOAD.run(this.redis.commands, this.keys(owner), args));
  }

  override async claimUnsaved(limit: number, leaseMs: number): Promise<readonly CartOwner[]> {
    const { unsaved, due } = this;
    const reply = CART_CLAIM.run(this.redis.commands, { unsaved, due }, [String(limit), String(leaseMs)]);
    const names = (await orUnavailable(reply)) as string[];
    const owners = names.map(ownerOfName);
    const foreign = names.filter((_, i) => owners[i] === undefined);
    if (foreign.length > 0) {
      await orUnavailable(this.redis.commands.zrem(unsaved, ...foreign));
      await orUnavailable(this.redis.commands.zrem(due, ...foreign));
    }
    return owners.filter((owner) => owner !== undefined);
  }

  override findUnsaved(owners: readonly CartOwner[]): Promise<readonly (UnsavedCart | Error | undefined)[]> {
    return inGroups(owners, async (owner) => {
      try {
        const found = await this.readCart(owner, '0');
        // A merged guest cart is saved with the cart of the user.
        return found?.merged ? undefined : found;
      } catch (err) {
        const cause = asUnavailable(err);
        return cause instanceof Error ? cause : new Error(String(cause));
      }
    });
  }

  override async markSaved(carts: readonly UnsavedCart[]): Promise<void> {
    await inGroups(carts, ({ owner, version, merges }) =>
      this.noteSaved(owner, version, merges.map(mergeText).join(','), '0'),
    );
  }

  override async raiseVersions(
    carts: readonly { readonly owner: CartOwner; readonly savedVersion: bigint }[],
  ): Promise<void> {
    await inGroups(carts, ({ owner, savedVersion }) => this.noteSaved(owner, savedVersion, '', '1'));
  }

  override async backlog(): Promise<CartBacklog> {
    const { commands } = this.redis;
    const [units, oldest, time] = await orUnavailable(
      Promise.all([
        commands.zcard(this.unsaved),
        commands.zrange(this.unsaved, '0', '0', 'WITHSCORES'),
        commands.time(),
      ]),
    );
    const nowMs = Number(time[0]) * 1_000 + Math.floor(Number(time[1]) / 1_000);
    return { units, oldestAgeMs: oldest[1] === undefined ? 0 : Math.max(0, nowMs - Number(oldest[1])) };
  }

  private async noteSaved(owner: CartOwner, version: bigint, merges: string, higher: string): Promise<void> {
    const args = [cartName(owner), this.delay, this.ttl, String(version), merges, higher];
    await orUnavailable(CART_SAVED.run(this.redis.commands, this.keys(owner), args));
  }

  private async readCart(
    owner: CartOwner,
    ttl: string,
  ): Promise<(UnsavedCart & { readonly merged: boolean }) | undefined> {
    const { cart, meta } = this.keys(owner);
    const reply = (await CART_READ.run(this.redis.commands, { cart, meta }, [ttl])) as string[];
    const [kind, version = '0', saved = '0', taken = '0', merged, merges = ''] = reply;
    if (kind === 'NOT_LOADED') return undefined;
    const lines: CartLine[] = [];
    for (let i = 6; i < reply.length; i += 2) {
      const line = lineOf(reply[i] ?? '', reply[i + 1] ?? '');
      if (line) lines.push(line);
    }
    return {
      ...{ owner, lines, version: BigInt(version), savedVersion: BigInt(saved), taken: BigInt(taken) },
      merged: merged === '1',
      merges: merges === '' ? [] : merges.split(',').map(mergeOf),
    };
  }

  private keys(owner: CartOwner): CartKeys {
    const cart = `${this.redis.keys.carts}${cartName(owner)}`;
    return { cart, meta: `${cart}:meta`, unsaved: this.unsaved, due: this.due };
  }
}

async function inGroups<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += PIPELINE) {
    results.push(...(await Promise.all(items.slice(i, i + PIPELINE).map(work))));
  }
  return results;
}

function textOf({ quantity, addedAt, selected, priceFen }: CartLine): string {
  const price = priceFen === undefined ? '' : `,"price":${priceFen}`;
  return `{"qty":${quantity},"add_time":${Math.floor(addedAt.getTime() / 1_000)},"selected":${selected}${price}}`;
}

/** As the scripts read it: what is not ours is no line. */
function lineOf(skuId: string, text: string): CartLine | undefined {
  if (!/^[1-9][0-9]{0,18}$/.test(skuId)) return undefined;
  const id = BigInt(skuId);
  let raw: Record<string, unknown> | null;
  try {
    raw = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    return undefined;
  }
  const { qty, add_time: addTime, selected, price } = raw ?? {};
  if (id > INT64_MAX || !isWhole(qty, 1, QUANTITY_MAX) || !isWhole(addTime, 0, 1e11)) return undefined;
  if (typeof selected !== 'boolean') return undefined;
  const priceFen = isWhole(price, 0, 1e15) ? BigInt(price) : undefined;
  return { skuId: id, quantity: qty, selected, addedAt: new Date(addTime * 1_000), priceFen };
}

function isWhole(value: unknown, low: number, high: number): value is number {
  return Number.isInteger(value) && (value as number) >= low && (value as number) <= high;
}

function mergeText({ id, expiresAt }: MergedGuest): string {
  return `${id}:${expiresAt.getTime()}`;
}

function mergeOf(text: string): MergedGuest {
  const [id = '', expiresMs] = text.split(':');
  return { id, expiresAt: new Date(Number(expiresMs)) };
}
