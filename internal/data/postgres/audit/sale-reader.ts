import type { AdmissionState } from '../../../biz/seckill/admission.js';
import { outcomeIdsOf, type PurchaseStream, type StreamEntry } from '../../../biz/seckill/purchase-stream.js';
import { type AdmissionSnapshot, type ExplainedDifference, explainedBy } from '../../../biz/seckill/sale-balance.js';
import type { Sale } from '../../../biz/seckill/sale-state.js';
import { decodeUnitsReturn, TOPIC_SECKILL_RETURN } from '../../../biz/seckill/seckill-return.js';
import type { InboxRow, SettlementRepo } from '../../../biz/seckill/settlement-state.js';
import type { Transaction } from '../../../biz/transaction.js';
import { RedisAdmission } from '../../redis/admission.js';
import { RedisPurchaseStream } from '../../redis/purchase-stream.js';
import type { RedisServer } from '../../redis/redis.js';
import type { Postgres, Statement } from '../postgres.js';
import { SALE_COLUMNS, type SaleRow, saleOf } from '../sale.js';
import { PgSettlementRepo } from '../settlement.js';
import { onSnapshot } from '../snapshot.js';
import { SALE_STATUS, SOLD_QUANTITY } from '../status.js';

/** Entries of one query. */
const PAGE = 2_000;

const OPEN_SALES: Statement = {
  name: 'audit_open_sales',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE status = ${SALE_STATUS.OPEN} ORDER BY id`,
};

const OPEN_SALE: Statement = {
  name: 'audit_open_sale',
  text: `SELECT ${SALE_COLUMNS}, (SELECT coalesce(sum(${SOLD_QUANTITY}), 0)::bigint FROM orders
      WHERE sale_id = sales.id) AS live
    FROM sales WHERE id = $1 AND status = ${SALE_STATUS.OPEN}`,
};

const RETURNS: Statement = {
  name: 'audit_returns',
  text: `SELECT payload FROM outbox WHERE topic = '${TOPIC_SECKILL_RETURN}' AND published_at IS NULL`,
};

/** An open sale in PostgreSQL and in Redis. */
export interface SaleComparison {
  readonly sale: Sale;
  /** Units of orders that count as sold. */
  readonly live: bigint;
  /** undefined: Redis does not have the sale under its current epoch. */
  readonly snapshot: AdmissionSnapshot | undefined;
  /** Units that admission has taken and PostgreSQL does not count as live, by user. */
  readonly explained: readonly ExplainedDifference[];
}

/** Reads open sales from PostgreSQL and Redis at once. */
export class SaleReader {
  readonly admission: RedisAdmission;
  private readonly stream: PurchaseStream;
  private readonly settlements: SettlementRepo;

  constructor(
    readonly db: Postgres,
    readonly redis: RedisServer,
  ) {
    this.admission = new RedisAdmission(redis);
    this.stream = new RedisPurchaseStream(redis);
    this.settlements = new PgSettlementRepo(db);
  }

  async openSales(): Promise<readonly Sale[]> {
    return (await this.db.query<SaleRow>(OPEN_SALES, [])).rows.map(saleOf);
  }

  /**
   * @returns `comparison` undefined: the sale is no longer open. `moved`: Redis changed while it was read, so the two
   * sides are not of the same moment.
   */
  async compare(sale: Sale): Promise<{ comparison: SaleComparison | undefined; moved: boolean }> {
    const { itemId, segments } = sale;
    const before = await this.admission.state(itemId, segments);
    const entries = await this.stream.waiting(itemId, segments);
    const comparison = await onSnapshot(this.db, (tx) => this.readBoth(tx, sale, before, entries));
    const after = await this.admission.state(itemId, segments);
    return { comparison, moved: before.mark !== after.mark };
  }

  private async readBoth(
    tx: Transaction,
    { id, itemId }: Sale,
    { loaded }: AdmissionState,
    entries: readonly StreamEntry[],
  ): Promise<SaleComparison | undefined> {
    const [row] = (await this.db.query<SaleRow & { live: bigint }>(OPEN_SALE, [id], tx)).rows;
    if (!row) return undefined;
    const sale = saleOf(row);
    if (loaded?.epoch !== sale.epoch) return { sale, live: row.live, snapshot: undefined, explained: [] };
    const { epoch, stock, counted } = loaded;
    const snapshot: AdmissionSnapshot = { epoch, stock, counted, entries };
    const outcomes = new Map<string, InboxRow>();
    for (let i = 0; i < entries.length; i += PAGE) {
      const ids = entries.slice(i, i + PAGE).flatMap(outcomeIdsOf);
      for (const outcome of await this.settlements.findRows(tx, itemId, ids)) outcomes.set(outcome.streamId, outcome);
    }
    const explained = [...explainedBy(sale, snapshot, outcomes), ...(await this.explainedByReturns(tx, sale))];
    return { sale, live: row.live, snapshot, explained };
  }

  /** Units of cancelled orders that have not been returned to admission yet. */
  private async explainedByReturns(tx: Transaction, sale: Sale): Promise<readonly ExplainedDifference[]> {
    const { rows } = await this.db.query<{ payload: Buffer }>(RETURNS, [], tx);
    const returns = rows
      .map((row) => decodeUnitsReturn(row.payload.toString()))
      .filter((r) => r.itemId === sale.itemId && r.epoch === sale.epoch);
    if (returns.length === 0) return [];
    const ids = returns.map((r) => r.returnId);
    const done = await this.admission.findReturned(sale.itemId, ids, sale.segments);
    return returns
      .filter((r) => !done.has(r.returnId))
      .map(({ userId, quantity }) => ({ userId, stockUnits: quantity, buyerUnits: quantity }));
  }
}
