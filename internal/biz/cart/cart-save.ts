import { isUnavailable } from '../../../gen/common/v1/errors.js';
import type { CartOwner } from './cart-owner.js';
import type { CartStore, SavedCarts, UnsavedCart } from './cart-store.js';

export interface CartSavePolicy {
  /** Carts of one look at the working copy. */
  readonly saveBatch: number;
}

export interface CartSaveFailure {
  readonly owner: CartOwner;
  readonly cause: unknown;
}

export interface CartSaveResult {
  /** Carts that were claimed. */
  readonly claimed: number;
  readonly saved: number;
  readonly failures: readonly CartSaveFailure[];
}

/** How long a cart stays with the saver that claimed it; one that cannot be saved is tried again after it. */
const LEASE_MS = 10_000;
/** Lines of one transaction; one cart more is never too much. */
const LINES_PER_TRANSACTION = 5_000;

/*
 * Saves carts that have changed:
 *
 *   claim → read the carts → one transaction → mark as saved
 *
 * A saver that dies between two of the steps loses nothing: the cart is still listed, and claimed again after the lease. Saving
 * twice is harmless, because PostgreSQL takes a cart only with a higher version, and a cart that has changed since it was
 * read stays listed.
 */
export class CartSaveUsecase {
  constructor(
    private readonly store: CartStore,
    private readonly saved: SavedCarts,
    private readonly policy: CartSavePolicy,
  ) {}

  /** Saves up to one batch. @throws UNAVAILABLE */
  async saveDue(): Promise<CartSaveResult> {
    const owners = await this.store.claimUnsaved(this.policy.saveBatch, LEASE_MS);
    if (owners.length === 0) return { claimed: 0, saved: 0, failures: [] };
    const failures: CartSaveFailure[] = [];
    const carts: UnsavedCart[] = [];
    (await this.store.findUnsaved(owners)).forEach((found, i) => {
      const owner = owners[i];
      if (found instanceof Error) {
        if (isUnavailable(found)) throw found;
        if (owner) failures.push({ owner, cause: found });
      } else if (found) carts.push(found);
    });
    let saved = 0;
    for (const group of groupsOf(carts)) saved += await this.save(group, failures);
    return { claimed: owners.length, saved, failures };
  }

  /** Halves a group that fails, until the cart at fault is alone. */
  private async save(carts: readonly UnsavedCart[], failures: CartSaveFailure[]): Promise<number> {
    let versions: readonly bigint[];
    try {
      versions = await this.saved.save(carts);
    } catch (cause) {
      if (isUnavailable(cause)) throw cause;
      const [first] = carts;
      if (carts.length === 1 && first) {
        failures.push({ owner: first.owner, cause });
        return 0;
      }
      const half = carts.length >> 1;
      return (await this.save(carts.slice(0, half), failures)) + (await this.save(carts.slice(half), failures));
    }
    const done: UnsavedCart[] = [];
    const behind: { owner: CartOwner; savedVersion: bigint }[] = [];
    carts.forEach((cart, i) => {
      const savedVersion = versions[i] ?? cart.version;
      if (savedVersion > cart.version) behind.push({ owner: cart.owner, savedVersion });
      else done.push(cart);
    });
    if (done.length > 0) await this.store.markSaved(done);
    // The working copy counts: it is what the buyer sees. Its version fell behind when Redis or its clock went back.
    if (behind.length > 0) await this.store.raiseVersions(behind);
    return done.length;
  }
}

function groupsOf(carts: readonly UnsavedCart[]): UnsavedCart[][] {
  const groups: UnsavedCart[][] = [];
  let lines = LINES_PER_TRANSACTION;
  for (const cart of carts) {
    if (lines >= LINES_PER_TRANSACTION) {
      groups.push([]);
      lines = 0;
    }
    groups.at(-1)?.push(cart);
    lines += cart.lines.length;
  }
  return groups;
}
