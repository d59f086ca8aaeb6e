import type { CountedEntries } from '../../../biz/seckill/admission.js';
import { outcomeIdsOf, type PurchaseStream, type StreamEntry } from '../../../biz/seckill/purchase-stream.js';
import { type AdmissionSnapshot, type ExplainedDifference, explainedBy } from '../../../biz/seckill/sale-balance.js';
import type { Sale } from '../../../biz/seckill/sale-state.js';
import { decodeUnitsReturn, TOPIC_SECKILL_RETURN } from '../../../biz/seckill/seckill-return.js';
import type { InboxRow, SettlementRepo } from '../../../biz/seckill/settlement-state.js';
import type { Transaction } from '../../../biz/transaction.js';
import { RedisPurchaseStream } from '../../redis/purchase-stream.js';
import { orUnavailable, type RedisServer } from '../../redis/redis.js';
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
  private readonly stream: PurchaseStream;
  private readonly settlements: SettlementRepo;

  constructor(
    readonly db: Postgres,
    readonly redis: RedisServer,
  ) {
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
    const before = await this.mark(sale.itemId);
    const entries = await this.stream.waiting(sale.itemId);
    const comparison = await onSnapshot(this.db, (tx) => this.readBoth(tx, sale, before, entries));
    const after = await this.mark(sale.itemId);
    return { comparison, moved: before.text !== after.text };
  }

  private async readBoth(
    tx: Transaction,
    { id, itemId }: Sale,
    mark: Mark,
    entries: readonly StreamEntry[],
  ): Promise<SaleComparison | undefined> {
    const [row] = (await this.db.query<SaleRow & { live: bigint }>(OPEN_SALE, [id], tx)).rows;
    if (!row) return undefined;
    const sale = saleOf(row);
    if (mark.epoch !== sale.epoch || mark.stock === undefined) {
      return { sale, live: row.live, snapshot: undefined, explained: [] };
    }
    const snapshot: AdmissionSnapshot = { epoch: mark.epoch, stock: mark.stock, counted: mark.counted, entries };
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
    const { returned } = this.redis.keys.sale(sale.itemId);
    const done = await orUnavailable(
      this.redis.commands.smismember(returned, ...returns.map((r) => String(r.returnId))),
    );
    return returns
      .filter((_, i) => done[i] === 0)
      .map(({ userId, quantity }) => ({ userId, stockUnits: quantity, buyerUnits: quantity }));
  }

  /** Admission, settlement and returns all change something of this. It is read at one moment. */
  private async mark(itemId: bigint): Promise<Mark> {
    const keys = this.redis.keys.sale(itemId);
    const replies = await orUnavailable(
      this.redis.commands
        .multi()
        .hmget(keys.meta, 'epoch', 'fence_from', 'fence')
        .get(keys.stock)
        .get(keys.req)
        .scard(keys.returned)
        .xlen(keys.stream)
        .xrevrange(keys.stream, '+', '-', 'COUNT', 1)
        .exec(),
    );
    const values = (replies ?? []).map(([err, value]) => {
      if (err) throw err;
      return value;
    });
    const [[epoch, from, to], stock] = values as [[epoch: Text, from: Text, to: Text], stock: Text];
    return {
      text: JSON.stringify(values),
      epoch: epoch === null ? undefined : BigInt(epoch),
      stock: stock === null ? undefined : BigInt(stock),
      counted: { from: from ?? '0-0', to: to ?? '0-0' },
    };
  }
}

/** What Redis holds of a sale. */
interface Mark {
  /** Everything that was read, to compare two marks. */
  readonly text: string;
  readonly epoch: bigint | undefined;
  readonly stock: bigint | undefined;
  readonly counted: CountedEntries;
}

type Text = string | null;
