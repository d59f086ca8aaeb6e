import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import { type DriftKind, driftOf, isStillOpen } from '../../../biz/seckill/sale-drift.js';
import type { Sale } from '../../../biz/seckill/sale-state.js';
import { RedisAdmission } from '../../redis/admission.js';
import type { RedisServer } from '../../redis/redis.js';
import type { Postgres, Statement } from '../postgres.js';
import { SALE_COLUMNS, type SaleRow, saleOf } from '../sale.js';
import { SALE_STATUS } from '../status.js';

// Of each item only the last sale can still admit. A scheduled one is not in Redis yet.
const LAST_SALES: Statement = {
  name: 'audit_last_sales',
  text: `SELECT ${SALE_COLUMNS} FROM (
      SELECT DISTINCT ON (item_id) * FROM sales WHERE epoch > 0 ORDER BY item_id, id DESC) AS sales
    WHERE status IN (${SALE_STATUS.OPEN}, ${SALE_STATUS.CLOSED}) ORDER BY id`,
};

/** A sale that Redis does not have does not admit; the balance check reports it. */
const REPORTED_ELSEWHERE: ReadonlySet<DriftKind> = new Set(['NOT_LOADED', 'STREAM_EXHAUSTED']);

/** Redis has the settings of every open sale, and no closed sale admits. */
export class AdmissionSettingsCheck extends AuditCheck {
  override readonly invariant = 16;
  private readonly admission: RedisAdmission;

  constructor(
    private readonly db: Postgres,
    redis: RedisServer,
  ) {
    super();
    this.admission = new RedisAdmission(redis);
  }

  override async check(limit: number): Promise<CheckResult> {
    const violations: InvariantViolation[] = [];
    for (const row of (await this.db.query<SaleRow>(LAST_SALES, [])).rows) {
      if (violations.length >= limit) break;
      const sale = saleOf(row);
      const detail = await this.violationOf(sale);
      if (detail !== undefined) violations.push({ id: `sale ${sale.id}`, detail });
    }
    return { violations, unchecked: [] };
  }

  private async violationOf(sale: Sale): Promise<string | undefined> {
    const state = await this.admission.state(sale.itemId, sale.segments);
    if (sale.status === 'CLOSED') return isStillOpen(sale, state) ? 'it is closed, and Redis still admits' : undefined;
    const drifts = driftOf(sale, state).filter((d) => !REPORTED_ELSEWHERE.has(d.kind));
    return drifts.length === 0 ? undefined : drifts.map((d) => d.detail).join('; ');
  }
}
