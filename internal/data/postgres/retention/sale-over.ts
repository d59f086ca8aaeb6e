import { SALE_STATUS } from '../status.js';

/** The sale has ended for good: Redis was told, and the unsold units have been returned. Some rows have no sale. */
export function saleOver(saleId: string): string {
  return `(${saleId} IS NULL OR EXISTS (SELECT FROM sales s WHERE s.id = ${saleId} AND s.status = ${SALE_STATUS.CLOSED}
  AND s.admission_closed_at IS NOT NULL AND (s.order_type <> 'GOODS' OR s.released_at IS NOT NULL)))`;
}
