import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import type { Sale } from '../../../biz/seckill/sale-state.js';
import type { SaleComparison, SaleReader } from './sale-reader.js';

/** Reads of a sale that changes meanwhile, until this audit leaves it out. */
const ATTEMPTS = 8;

export class SaleBalanceCheck extends AuditCheck {
  override readonly invariant = 2;

  constructor(private readonly sales: SaleReader) {
    super();
  }

  override async check(limit: number): Promise<CheckResult> {
    const violations: InvariantViolation[] = [];
    const unchecked: InvariantViolation[] = [];
    for (const sale of await this.sales.openSales()) {
      if (violations.length >= limit) break;
      const id = `sale ${sale.id}`;
      const comparison = await this.compareAtRest(sale);
      if (comparison === 'moving') unchecked.push({ id, detail: 'it sold units while it was being checked' });
      else if (comparison !== undefined) {
        const detail = imbalanceOf(comparison);
        if (detail !== undefined) violations.push({ id, detail });
      }
    }
    return { violations, unchecked };
  }

  private async compareAtRest(sale: Sale): Promise<SaleComparison | undefined | 'moving'> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { comparison, moved } = await this.sales.compare(sale);
      if (!moved) return comparison;
    }
    return 'moving';
  }
}

function imbalanceOf({ sale, live, snapshot, explained }: SaleComparison): string | undefined {
  if (!snapshot) return `Redis does not have it under epoch ${sale.epoch}`;
  const waiting = explained.reduce((sum, e) => sum + BigInt(e.stockUnits), 0n);
  const sum = snapshot.stock + live + waiting;
  if (sum === sale.total) return undefined;
  return `${snapshot.stock} in Redis, ${live} live, ${waiting} unprocessed or being returned: ${sum} of ${sale.total}`;
}
