import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import { NIL_UUID } from '../../../biz/identity.js';
import type { Sale } from '../../../biz/seckill/sale-state.js';
import { segmentsOf } from '../../../biz/seckill/segment.js';
import { orUnavailable } from '../../redis/redis.js';
import type { Statement } from '../postgres.js';
import { SOLD_QUANTITY } from '../status.js';
import type { SaleComparison, SaleReader } from './sale-reader.js';
import type { SqlInvariant } from './sql-check.js';

export const USER_LIMITS: SqlInvariant = {
  invariant: 3,
  rules: [
    {
      name: 'user_limits',
      // A limit that was lowered takes no units away, so only a later purchase can exceed it.
      text: `SELECT format('user %s of sale %s', u.user_id, u.sale_id) AS id,
          format('holds %s, limit %s', u.units, coalesce(v.units, s.default_limit)) AS detail
        FROM (SELECT sale_id, user_id, sum(${SOLD_QUANTITY}) AS units, max(created_at) AS newest
            FROM orders WHERE sale_id IS NOT NULL AND ${SOLD_QUANTITY} > 0 GROUP BY 1, 2) u
        JOIN sales s ON s.id = u.sale_id
        LEFT JOIN vip_limits v ON v.sale_id = u.sale_id AND v.user_id = u.user_id
        WHERE u.units > coalesce(v.units, s.default_limit) AND u.newest > coalesce(v.updated_at, s.limited_at)
        ORDER BY u.sale_id, u.user_id LIMIT $1`,
    },
  ],
};

/** Users of one query. */
const PAGE = 2_000;

const BUYERS_AFTER: Statement = {
  name: 'audit_buyers_after',
  text: `SELECT user_id, sum(${SOLD_QUANTITY})::int AS units FROM orders
    WHERE sale_id = $1 AND ${SOLD_QUANTITY} > 0 AND user_id > $2
    GROUP BY user_id ORDER BY user_id LIMIT ${PAGE}`,
};

const WHO_HOLDS_UNITS: Statement = {
  name: 'audit_who_holds_units',
  text: `SELECT DISTINCT user_id FROM orders
    WHERE sale_id = $1 AND ${SOLD_QUANTITY} > 0 AND user_id = ANY($2::uuid[])`,
};

/** Compares the buyers hash of Redis with the orders, for open sales. */
export class BuyersCheck extends AuditCheck {
  override readonly invariant = 3;

  constructor(private readonly sales: SaleReader) {
    super();
  }

  override async check(limit: number): Promise<CheckResult> {
    const violations: InvariantViolation[] = [];
    for (const sale of await this.sales.openSales()) {
      if (violations.length >= limit) break;
      const { comparison } = await this.sales.compare(sale);
      if (comparison?.snapshot) await this.compareBuyers(comparison, violations, limit);
    }
    return { violations: violations.slice(0, limit) };
  }

  private async compareBuyers(
    { sale, explained }: SaleComparison,
    violations: InvariantViolation[],
    limit: number,
  ): Promise<void> {
    const { db, admission } = this.sales;
    const { itemId, segments } = sale;
    const explainedUnits = new Map<string, number>();
    for (const { userId, buyerUnits } of explained) {
      explainedUnits.set(userId, (explainedUnits.get(userId) ?? 0) + buyerUnits);
    }
    const judge = (userId: string, live: number, inRedis: number): void => {
      const expected = live + (explainedUnits.get(userId) ?? 0);
      if (inRedis === expected) return;
      violations.push({
        id: `user ${userId} of sale ${sale.id}`,
        detail: `${inRedis} units in the buyers hash, ${expected} by orders and entries`,
      });
    };
    const judged = new Set<string>();
    for (let after = NIL_UUID; violations.length < limit; ) {
      const { rows } = await db.query<{ user_id: string; units: number }>(BUYERS_AFTER, [sale.id, after]);
      if (rows.length === 0) break;
      const users = rows.map((row) => row.user_id);
      const inRedis = await admission.unitsOf(itemId, users, segments);
      for (const row of rows) judge(row.user_id, row.units, inRedis.get(row.user_id) ?? 0);
      for (const user of users) if (explainedUnits.has(user)) judged.add(user);
      after = users.at(-1)!;
    }
    // Users without an order: those of the buyers hash, and those of waiting entries.
    for await (const page of this.buyersOf(sale)) {
      const { rows } = await db.query<{ user_id: string }>(WHO_HOLDS_UNITS, [sale.id, page]);
      const live = new Set(rows.map((row) => row.user_id));
      const without = page.filter((userId) => !live.has(userId) && !judged.has(userId));
      for (const [userId, units] of await admission.unitsOf(itemId, without, segments)) judge(userId, 0, units);
      for (const userId of page) judged.add(userId);
      if (violations.length >= limit) break;
    }
    for (const userId of explainedUnits.keys()) if (!judged.has(userId)) judge(userId, 0, 0);
  }

  /** The users in the buyers hashes of a sale, in pages. */
  private async *buyersOf({ itemId, segments }: Sale): AsyncGenerator<readonly string[]> {
    const { redis } = this.sales;
    for (const segment of segmentsOf(segments)) {
      const { buyers } = redis.keys.sale(itemId, segment);
      for (let cursor = '0'; ; ) {
        const [next, flat] = await orUnavailable(redis.commands.hscan(buyers, cursor, 'COUNT', PAGE));
        yield flat.filter((_, i) => i % 2 === 0);
        cursor = next;
        if (cursor === '0') break;
      }
    }
  }
}
