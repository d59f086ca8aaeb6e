import pg from 'pg';
import { type Transaction, TransactionRunner } from '../../internal/biz/transaction.js';
import { PgSavedCarts } from '../../internal/data/postgres/cart.js';
import { PgCartCheckoutRepo } from '../../internal/data/postgres/cart-checkout.js';
import { PgCatalogRepo } from '../../internal/data/postgres/catalog.js';
import { PgContentRepo } from '../../internal/data/postgres/content.js';
import { PgCouponRepo } from '../../internal/data/postgres/coupon.js';
import { PgEntitlementRepo } from '../../internal/data/postgres/entitlement.js';
import { PgInstanceRepo } from '../../internal/data/postgres/instance.js';
import { PgOrderRepo } from '../../internal/data/postgres/order.js';
import { PgOutbox } from '../../internal/data/postgres/outbox.js';
import { PgPaymentRepo } from '../../internal/data/postgres/payment.js';
import { PgPaymentSessionRepo } from '../../internal/data/postgres/payment-session.js';
import { clientOf, Postgres } from '../../internal/data/postgres/postgres.js';
import { PgPriceRuleRepo } from '../../internal/data/postgres/price-rule.js';
import { PgProductRepo } from '../../internal/data/postgres/product.js';
import { PgRefundRepo } from '../../internal/data/postgres/refund.js';
import { PgSaleRepo } from '../../internal/data/postgres/sale.js';
import { PgSaleAccounts } from '../../internal/data/postgres/sale-account.js';
import { PgSaleUnitsRepo } from '../../internal/data/postgres/sale-units.js';
import { PgSettlementRepo } from '../../internal/data/postgres/settlement.js';
import { PgShipmentRepo } from '../../internal/data/postgres/shipment.js';
import { ORDER_STATUS } from '../../internal/data/postgres/status.js';
import { PgStockRepo } from '../../internal/data/postgres/stock.js';
import { PgUserRepo } from '../../internal/data/postgres/user.js';
import { PgUserCouponRepo } from '../../internal/data/postgres/user-coupon.js';
import { PgVipLimitRepo } from '../../internal/data/postgres/vip-limit.js';
import { MemoryStockGate } from '../support/memory/stock-gate.js';
import type { Backend, OrderItemRow } from './backend.js';

/** The adapters of internal/data. */
export async function openPostgresBackend(url: string): Promise<Backend> {
  await oncePerDatabase(url);
  const db = new Postgres({
    source: url,
    poolSize: 20,
    role: 'kaimai_product',
    statementTimeoutMs: 10_000,
    connectTimeoutMs: 5_000,
    applicationName: 'contract-test',
  });
  const column = async (name: 'sold' | 'returned', saleId: bigint) => {
    const { rows } = await db.pool.query<{ n: bigint }>(`SELECT ${name} AS n FROM sales WHERE id = $1`, [saleId]);
    return rows[0]?.n ?? -1n;
  };
  return {
    transactions: db,
    products: new PgProductRepo(db),
    catalog: new PgCatalogRepo(db),
    contents: new PgContentRepo(db),
    entitlements: new PgEntitlementRepo(db, { offsetMs: 0 }),
    stock: new PgStockRepo(db, new MemoryStockGate()),
    orders: new PgOrderRepo(db),
    cartCheckouts: new PgCartCheckoutRepo(db),
    savedCarts: new PgSavedCarts(db),
    shipments: new PgShipmentRepo(db),
    payments: new PgPaymentRepo(db),
    paymentSessions: new PgPaymentSessionRepo(db),
    priceRules: new PgPriceRuleRepo(db),
    coupons: new PgCouponRepo(db),
    userCoupons: new PgUserCouponRepo(db),
    refunds: new PgRefundRepo(db),
    instances: new PgInstanceRepo(db),
    users: new PgUserRepo(db),
    saleUnits: new PgSaleUnitsRepo(db),
    sales: new PgSaleRepo(db),
    vipLimits: new PgVipLimitRepo(db),
    accounts: new PgSaleAccounts(db, new PgSettlementRepo(db)),
    outbox: new PgOutbox(db),
    topics: async (refId) => {
      const { rows } = await db.pool.query<{ topic: string }>('SELECT topic FROM outbox WHERE ref_id = $1', [refId]);
      return rows.map((row) => row.topic);
    },
    insertSale: async ({ id, itemId, total, orderType = 'INSTANCE' }) => {
      await db.pool.query(
        `INSERT INTO sales (id, item_id, status, starts_at, total, price, pay_mode, pay_timeout_ms, default_limit, epoch, order_type)
         VALUES ($1, $2, 1, now(), $3, 1, 'PAY_LATER', 60000, 1, 1, $4)`,
        [id, itemId, total, orderType],
      );
    },
    sell: async (tx, saleId) => {
      await clientOf(tx).query('UPDATE sales SET sold = sold + 1 WHERE id = $1', [saleId]);
    },
    releaseSale: async (saleId) => {
      await db.pool.query('UPDATE sales SET status = 2, returned = total - sold, released_at = now() WHERE id = $1', [
        saleId,
      ]);
    },
    sold: (saleId) => column('sold', saleId),
    returned: (saleId) => column('returned', saleId),
    items: async (orderId) => {
      const { rows } = await db.pool.query<Omit<OrderItemRow, 'sellerId'> & { seller_id: string | null }>(
        `SELECT sku_id AS "skuId", spu_id AS "spuId", seller_id, spu_name AS "spuName", sku_name AS "skuName",
           sku_image AS "skuImage", specs, price AS "priceFen", quantity, promotion_amount AS "promotionFen"
         FROM order_items WHERE order_id = $1 ORDER BY sku_id`,
        [orderId],
      );
      return rows.map(({ seller_id, ...item }) => ({ ...item, sellerId: seller_id ?? undefined }));
    },
    publish: async (instanceId, agoMs) => {
      const at = `now() - ${agoMs} * interval '1 ms'`;
      await db.pool.query(
        `WITH r AS (UPDATE instance_requests SET created_at = ${at} WHERE instance_id = $1)
         UPDATE outbox SET created_at = ${at}, published_at = ${at} WHERE ref_id = $1`,
        [instanceId],
      );
    },
    ageEntitlements: async (accesses, byMs) => {
      for (const { userId, contentId } of accesses) {
        await db.pool.query(
          `UPDATE order_content_association SET access_start_time = access_start_time - ${byMs} * interval '1 ms',
             access_end_time = access_end_time - ${byMs} * interval '1 ms' WHERE user_id = $1 AND content_id = $2`,
          [userId, contentId],
        );
      }
    },
    insertInboxRow: async (order, streamId) => {
      await db.pool.query(
        `INSERT INTO stream_inbox (item_id, stream_id, user_id, quantity, outcome, order_id)
         VALUES ($1, $2, $3, $4, 'ORDER', $5)`,
        [order.productId, streamId, order.userId, order.quantity, order.id],
      );
    },
    breakConnection: async (tx) => {
      const { rows } = await clientOf(tx).query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      await execute(url, 'SELECT pg_terminate_backend($1, 5000)', [rows[0]?.pid]);
    },
    loseCommitReply: (tx) => {
      const client = clientOf(tx);
      const query = client.query.bind(client) as (...args: unknown[]) => unknown;
      client.query = (async (...args: unknown[]) => {
        const result = await query(...args);
        if (args[0] === 'COMMIT') throw new Error('Connection terminated unexpectedly');
        return result;
      }) as typeof client.query;
    },
    close: () => db.close(),
  };
}

/** The same with an archive that every order moves to as soon as it is finished. */
export async function openArchivingBackend(url: string): Promise<Backend> {
  const backend = await openPostgresBackend(url);
  const pool = new pg.Pool({ connectionString: url, max: 2 });
  const finished = `SELECT id FROM ONLY orders WHERE status IN (${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.COMPLETED})`;
  return {
    ...backend,
    transactions: new Archiving(backend.transactions, () =>
      pool.query(`SELECT archive_orders(ARRAY(${finished}), 'infinity')`),
    ),
    close: async () => {
      await pool.end();
      await backend.close();
    },
  };
}

class Archiving extends TransactionRunner {
  constructor(
    private readonly inner: TransactionRunner,
    private readonly archive: () => Promise<unknown>,
  ) {
    super();
  }

  override async run<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const result = await this.inner.run(work);
    await this.archive();
    return result;
  }

  override afterCommit(tx: Transaction, work: () => void): void {
    this.inner.afterCommit(tx, work);
  }
}

const prepared = new Set<string>();

/** So that the tests of deadlocks do not have to wait for the default second. */
async function oncePerDatabase(url: string): Promise<void> {
  if (prepared.has(url)) return;
  prepared.add(url);
  const database = pg.escapeIdentifier(decodeURIComponent(new URL(url).pathname.slice(1)));
  await execute(url, `ALTER DATABASE ${database} SET deadlock_timeout = '50ms'`, []);
}

async function execute(url: string, sql: string, values: unknown[]): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql, values);
  } finally {
    await client.end();
  }
}
