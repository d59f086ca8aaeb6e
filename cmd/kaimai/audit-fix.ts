import { EntitlementRepair } from '../../internal/biz/entitlement/entitlement-repair.js';
import { OrderAccess } from '../../internal/biz/entitlement/order-access.js';
import { PgUnopenedOrders } from '../../internal/data/postgres/audit/opened-contents.js';
import { PgEntitlementRepo } from '../../internal/data/postgres/entitlement.js';
import { PgOrderRepo } from '../../internal/data/postgres/order.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { PgRefundRepo } from '../../internal/data/postgres/refund.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';

/** A repair that `audit --fix` did or would do. */
export interface Fix {
  readonly invariant: 10;
  /** What is repaired, such as `order 123`. */
  readonly id: string;
  readonly action: string;
  /** undefined: only with --yes. */
  readonly outcome: 'done' | 'nothing to do any more' | `failed: ${string}` | undefined;
}

/** Orders that are read together. */
const PAGE = 500;

/**
 * Opens the contents of paid orders that did not open them, one order in a transaction.
 * @param confirmed false: nothing is changed, and the fixes say what would be
 */
export async function fixUnopenedOrders(db: Postgres, confirmed: boolean): Promise<readonly Fix[]> {
  const access = new OrderAccess(new PgEntitlementRepo(db, { offsetMs: 0 }));
  const repair = new EntitlementRepair(db, new PgOrderRepo(db), new PgRefundRepo(db), access);
  const unopened = new PgUnopenedOrders(db);
  const fixes: Fix[] = [];
  let afterId = 0n;
  for (;;) {
    const page = await unopened.find(afterId, PAGE);
    for (const { orderId, userId, status, contentIds } of page) {
      const action = `open ${contentIds.join(', ')} to user ${userId} (${status})`;
      const outcome = confirmed ? await repaired(repair, orderId) : undefined;
      fixes.push({ invariant: 10, id: `order ${orderId}`, action, outcome });
    }
    const last = page.at(-1);
    if (!last || page.length < PAGE) return fixes;
    afterId = last.orderId;
  }
}

/** The others are repaired although one fails. */
async function repaired(repair: EntitlementRepair, orderId: bigint): Promise<Fix['outcome']> {
  try {
    return (await repair.repair(orderId)) > 0 ? 'done' : 'nothing to do any more';
  } catch (err) {
    return `failed: ${errorText(err)}`;
  }
}
