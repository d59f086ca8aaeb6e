import type {
  Move,
  NewGoodsOrder,
  NewOrder,
  Order,
  OrderActor,
  OrderEvent,
  OrderFilter,
  OrderStatus,
  Receiver,
  RefundedPart,
  RequestId,
} from '../../biz/order/order-state.js';
import { OrderRepo, requestKey } from '../../biz/order/order-state.js';
import type { Page, PageRequest } from '../../biz/page.js';
import type { Transaction } from '../../biz/transaction.js';
import { type Count, Metrics } from '../../kratos/metrics/metrics.js';
import { int2s, int4s, int8s, texts, uuids } from './column.js';
import { itemsJson } from './order-item.js';
import { ORDER_COLUMNS, type OrderRow, orderOf } from './order-row.js';
import type { Postgres, Statement } from './postgres.js';
import { PrimaryReads, type Reads } from './reads.js';
import { ORDER_STATUS, orderStatusOf } from './status.js';

/** @param content whether the orders are of contents; the others are inserted faster without the columns */
function insert(name: string, onConflict: string, content = false): Statement {
  const columns = content ? ', content_id, content_type, content_days' : '';
  return {
    name,
    text: `WITH o AS (
      INSERT INTO orders (id, user_id, order_type, source, status, product_id, sku_id, product_name, quantity, price,
        amount, req_id, sale_id, request_id, instance_id, remark, seller_id, request_fingerprint, pay_deadline, paid_at${columns})
      SELECT id, user_id, order_type, source, status, product_id, sku_id, product_name, quantity, price,
        amount, req_id, sale_id, request_id, instance_id, remark, seller_id, request_fingerprint, now() + pay_timeout_ms * interval '1 ms',
        CASE WHEN status = ${ORDER_STATUS.PAID} THEN now() END${columns}
      FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::text[], $5::smallint[], $6::bigint[], $7::bigint[],
        $8::text[], $9::int[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[], $15::bigint[],
        $16::text[], $17::bigint[], $18::uuid[], $19::text[]${content ? ', $21::bigint[], $22::text[], $23::int[]' : ''})
        AS t(id, user_id, order_type, source, status, product_id, sku_id, product_name, quantity, price, amount, req_id,
          sale_id, request_id, instance_id, remark, pay_timeout_ms, seller_id, request_fingerprint${columns})
      ${onConflict}
      RETURNING id, status, created_at)
    INSERT INTO order_events (order_id, version, from_status, to_status, actor, at)
    SELECT id, 1, NULL, status, $20, created_at FROM o`,
  };
}

const UNLESS_REQUESTED = 'ON CONFLICT (user_id, request_id) WHERE request_id IS NOT NULL DO NOTHING';
const INSERT = insert('order_insert', UNLESS_REQUESTED);
// Without request ids there can be no conflict, and inserting rows that may conflict takes a tenth longer.
const INSERT_BATCH = insert('order_insert_batch', '');
const INSERT_CONTENT = insert('order_insert_content', UNLESS_REQUESTED, true);

// The lines travel as JSON, which is also the snapshot on the order: one statement writes orders, events and lines.
const INSERT_GOODS: Statement = {
  name: 'order_insert_goods',
  text: `WITH o AS (
      INSERT INTO orders (id, user_id, order_type, source, status, sku_id, product_name, quantity, price, amount,
        freight_amount, promotion_amount, req_id, sale_id, request_id, request_fingerprint, remark, receiver_json, items,
        goods_type, seller_id, pay_deadline, paid_at)
      SELECT id, user_id, 'GOODS', source, status, sku_id, product_name, quantity, price, amount,
        freight_amount, promotion_amount, req_id, sale_id, request_id, request_fingerprint, remark, receiver_json::jsonb,
        items::jsonb, nullif(items::jsonb -> 0 ->> 'goods_type', ''), seller_id, now() + pay_timeout_ms * interval '1 ms', CASE WHEN status = ${ORDER_STATUS.PAID} THEN now() END
      FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::smallint[], $5::bigint[], $6::text[], $7::int[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[],
        $15::text[], $16::text[], $17::text[], $18::text[], $19::bigint[], $20::uuid[])
        AS t(id, user_id, source, status, sku_id, product_name, quantity, price, amount, freight_amount,
          promotion_amount, req_id, sale_id, request_id, request_fingerprint, remark, receiver_json, items, pay_timeout_ms,
          seller_id)
      ON CONFLICT (user_id, request_id) WHERE request_id IS NOT NULL DO NOTHING
      RETURNING id, status, created_at, items),
    i AS (
      INSERT INTO order_items (order_id, sku_id, spu_id, spu_name, sku_name, sku_image, specs, price, quantity,
        total_price, promotion_amount, seller_id)
      SELECT o.id, l.sku_id, l.spu_id, l.spu_name, l.sku_name, l.sku_image, l.specs, l.price, l.quantity,
        l.price * l.quantity, l.promotion_amount, l.seller_id
      FROM o, jsonb_to_recordset(o.items) AS l(sku_id bigint, spu_id bigint, spu_name text, sku_name text,
        sku_image text, specs jsonb, price bigint, quantity int, promotion_amount bigint, seller_id uuid))
    INSERT INTO order_events (order_id, version, from_status, to_status, actor, at)
    SELECT id, 1, NULL, status, $21, created_at FROM o`,
};

const FIND: Statement = {
  name: 'order_find',
  text: `SELECT ${ORDER_COLUMNS} FROM orders WHERE id = $1 AND ($2::uuid IS NULL OR (user_id = $2 AND NOT deleted))`,
};

const FIND_ALL: Statement = {
  name: 'order_find_all',
  replan: true,
  text: `SELECT ${ORDER_COLUMNS} FROM orders WHERE id = ANY ($1::bigint[])`,
};

const LOCK: Statement = { name: 'order_lock', text: `${FIND.text} FOR UPDATE` };

// The archive has finished orders only.
const UNARCHIVE: Statement = { name: 'order_unarchive', text: 'SELECT unarchive_orders(ARRAY[$1::bigint])' };

const FIND_BY_REQUEST: Statement = {
  name: 'order_find_by_request',
  text: `SELECT ${ORDER_COLUMNS} FROM orders WHERE user_id = $1 AND request_id = $2`,
};

const FIND_REQUEST_IDS: Statement = {
  name: 'order_find_request_ids',
  replan: true,
  text: `SELECT o.user_id AS "userId", o.request_id AS "requestId"
    FROM unnest($1::uuid[], $2::text[]) AS t(user_id, request_id)
    JOIN orders o ON o.user_id = t.user_id AND o.request_id = t.request_id`,
};

const FIND_STREAM_ID: Statement = {
  name: 'order_find_stream_id',
  text: 'SELECT stream_id FROM stream_inbox WHERE order_id = $1',
};

/*
 * The count and the ids of the page are read from the index alone. An empty page still returns the total, in a row of its
 * own. There is one statement for each set of filters, and the ids are an array: with `$4 IS NULL OR status = $4`, or with
 * OFFSET and LIMIT on the rows themselves, the planner makes a new plan for each call, which takes longer than running it.
 */
function list({ status, orderType }: OrderFilter, afterId: bigint | undefined): Statement & { values: unknown[] } {
  const values: unknown[] = [];
  const parameter = (value: unknown) => `$${values.push(value) + 3}`;
  const filters = [
    ...(status === undefined ? [] : [`AND status = ${parameter(ORDER_STATUS[status])}`]),
    ...(orderType === undefined ? [] : [`AND order_type = ${parameter(orderType)}`]),
  ];
  const where = `user_id = $1 AND NOT deleted ${filters.join(' ')}`;
  const after = afterId === undefined ? '' : parameter(afterId);
  const onward =
    after === '' ? '' : `AND (created_at, id) < ((SELECT created_at FROM orders WHERE id = ${after}), ${after})`;
  return {
    name: `order_list${status === undefined ? '' : '_status'}${orderType === undefined ? '' : '_type'}${after && '_after'}`,
    text: `SELECT c.total, o.* FROM (SELECT count(*) AS total FROM orders WHERE ${where}) AS c
    LEFT JOIN (SELECT ${ORDER_COLUMNS} FROM orders WHERE id = ANY (ARRAY(
      SELECT id FROM orders WHERE ${where} ${onward} ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT $3))) AS o ON true
    ORDER BY o.created_at DESC, o.id DESC`,
    values,
  };
}

const LIST_EVENTS: Statement = {
  name: 'order_events_list',
  text: 'SELECT from_status, to_status, actor, reason, at FROM order_events WHERE order_id = $1 ORDER BY version',
};

// SKIP LOCKED: an order that another transaction is changing at this moment is left to it.
function lockDue(name: string, status: number, deadline: string): Statement {
  return {
    name,
    text: `SELECT ${ORDER_COLUMNS} FROM orders WHERE status = ${status} AND ${deadline} < now() AND id <> ALL ($2::bigint[])
    ORDER BY ${deadline} LIMIT $1 FOR UPDATE SKIP LOCKED`,
  };
}

const LOCK_OVERDUE = lockDue('order_lock_overdue', ORDER_STATUS.PENDING, 'pay_deadline');
const LOCK_UNCONFIRMED = lockDue('order_lock_unconfirmed', ORDER_STATUS.SHIPPED, 'confirm_deadline');

const MOVE: Statement = {
  name: 'order_move',
  text: `WITH o AS (
      UPDATE orders SET status = $4::smallint, version = version + 1, updated_at = now(),
        paid_at = CASE WHEN $4::smallint = ${ORDER_STATUS.PAID} THEN coalesce(paid_at, now()) ELSE paid_at END,
        -- greatest: if the clock is set back, an order must not be completed before it was paid. A refused refund
        -- returns the order to its status, but does not set its times again.
        completed_at = CASE WHEN $4::smallint = ${ORDER_STATUS.COMPLETED}
          THEN coalesce(completed_at, greatest(now(), paid_at, shipped_at)) ELSE completed_at END,
        shipped_at = CASE WHEN $4::smallint = ${ORDER_STATUS.SHIPPED} THEN coalesce(shipped_at, now()) ELSE shipped_at END,
        confirm_deadline = coalesce(now() + $8::bigint * interval '1 ms', confirm_deadline),
        close_reason = CASE WHEN $4::smallint IN (${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.REFUNDING})
          THEN left($6::text, 64) ELSE '' END,
        instance_id = coalesce($7::bigint, instance_id)
      WHERE id = $1 AND status = $2::smallint AND version = $3
      RETURNING ${ORDER_COLUMNS}),
    e AS (
      INSERT INTO order_events (order_id, version, from_status, to_status, actor, reason)
      SELECT id, version, $2::smallint, $4::smallint, $5, left($6::text, 255) FROM o)
    SELECT ${ORDER_COLUMNS} FROM o`,
};

// Locked in the order of their ids, as the lock order has it. `status + 0` hides the status from the planner: it would read
// all orders of a status that has few when the table was last analysed.
const COMPLETE_ALL: Statement = {
  name: 'order_complete_all',
  replan: true,
  text: `WITH o AS (
      UPDATE orders SET status = ${ORDER_STATUS.COMPLETED}, version = version + 1, updated_at = now(), close_reason = '',
        completed_at = coalesce(completed_at, greatest(now(), paid_at, shipped_at))
      WHERE id = ANY (ARRAY(SELECT id FROM orders
        WHERE id = ANY ($1::bigint[]) AND status + 0 = $2::smallint AND order_type = $3 ORDER BY id FOR UPDATE))
      RETURNING id, version)
    INSERT INTO order_events (order_id, version, from_status, to_status, actor)
    SELECT id, version, $2::smallint, ${ORDER_STATUS.COMPLETED}, $4 FROM o`,
};

const SET_INSTANCE: Statement = {
  name: 'order_set_instance',
  text: `UPDATE orders SET instance_id = $2, version = version + 1, updated_at = now()
    WHERE id = $1 AND status = ${ORDER_STATUS.PAID} AND instance_id IS NULL`,
};

const SET_RECEIVER: Statement = {
  name: 'order_set_receiver',
  text: `UPDATE orders SET receiver_json = $2::jsonb, amount = amount - freight_amount + $3, freight_amount = $3,
      version = version + 1, updated_at = now()
    WHERE id = $1 RETURNING ${ORDER_COLUMNS}`,
};

const HIDE: Statement = {
  name: 'order_hide',
  text: `UPDATE orders SET deleted = true, version = version + 1, updated_at = now()
    WHERE id = $1 AND user_id = $2 AND status IN (${ORDER_STATUS.CANCELLED}, ${ORDER_STATUS.COMPLETED}) AND NOT deleted`,
};

const IS_HIDDEN: Statement = {
  name: 'order_is_hidden',
  text: 'SELECT FROM orders WHERE id = $1 AND user_id = $2 AND deleted',
};

const ADD_REFUND: Statement = {
  name: 'order_add_refund',
  text: `UPDATE orders SET refunded_amount = refunded_amount + $2,
      kept_quantity = coalesce(kept_quantity, quantity) - $3, version = version + 1, updated_at = now()
    WHERE id = $1`,
};

const IS_COMPLETED_WITHIN: Statement = {
  name: 'order_is_completed_within',
  text: "SELECT coalesce(completed_at > now() - $2 * interval '1 ms', false) AS within FROM orders WHERE id = $1",
};

export class PgOrderRepo extends OrderRepo {
  private readonly entered: Readonly<Record<OrderStatus, Count>>;

  constructor(
    private readonly db: Postgres,
    metrics: Metrics = new Metrics(),
    private readonly reads: Reads = new PrimaryReads(db),
  ) {
    super();
    this.entered = metrics.counts(
      'order_transitions_total',
      'Orders that entered a status, by status; committed ones only.',
      'to',
      Object.keys(ORDER_STATUS) as OrderStatus[],
    );
  }

  override async insert(tx: Transaction, orders: readonly NewOrder[], actor: OrderActor): Promise<boolean> {
    const plain = orders.some((o) => o.requestId !== undefined) ? INSERT : INSERT_BATCH;
    const ofContents = orders.some((o) => o.content !== undefined);
    const { rowCount } = await this.db.query(
      ofContents ? INSERT_CONTENT : plain,
      [
        int8s(orders, (o) => o.id),
        uuids(orders, (o) => o.userId),
        texts(orders, (o) => o.orderType),
        texts(orders, (o) => o.source),
        int2s(orders, (o) => ORDER_STATUS[o.status]),
        int8s(orders, (o) => o.productId),
        int8s(orders, (o) => o.skuId),
        texts(orders, (o) => o.productName),
        int4s(orders, (o) => o.quantity),
        int8s(orders, (o) => o.priceFen),
        int8s(orders, (o) => o.amountFen),
        int8s(orders, (o) => o.reqId),
        int8s(orders, (o) => o.saleId),
        texts(orders, (o) => o.requestId),
        int8s(orders, (o) => o.instanceId),
        texts(orders, (o) => o.remark ?? ''),
        int8s(orders, (o) => (o.payTimeoutMs === undefined ? undefined : BigInt(Math.round(o.payTimeoutMs)))),
        uuids(orders, (o) => o.sellerId),
        texts(orders, (o) => o.requestFingerprint),
        actor,
        ...(ofContents ? contentColumns(orders) : []),
      ],
      tx,
    );
    this.countEntered(tx, orders, rowCount);
    this.db.writesFor(
      tx,
      orders.map((o) => o.userId),
    );
    return rowCount === orders.length;
  }

  override async insertGoods(tx: Transaction, orders: readonly NewGoodsOrder[], actor: OrderActor): Promise<boolean> {
    const { rowCount } = await this.db.query(
      INSERT_GOODS,
      [
        int8s(orders, (o) => o.id),
        uuids(orders, (o) => o.userId),
        texts(orders, (o) => o.source),
        int2s(orders, (o) => ORDER_STATUS[o.status]),
        int8s(orders, (o) => o.skuId),
        texts(orders, (o) => o.productName),
        int4s(orders, (o) => o.quantity),
        int8s(orders, (o) => o.priceFen),
        int8s(orders, (o) => o.amountFen),
        int8s(orders, (o) => o.freightFen),
        int8s(orders, (o) => o.promotionFen),
        int8s(orders, (o) => o.reqId),
        int8s(orders, (o) => o.saleId),
        texts(orders, (o) => o.requestId),
        texts(orders, (o) => o.requestFingerprint),
        texts(orders, (o) => o.remark ?? ''),
        texts(orders, (o) => (o.receiver === undefined ? undefined : JSON.stringify(o.receiver))),
        texts(orders, (o) => itemsJson(o.items)),
        int8s(orders, (o) => (o.payTimeoutMs === undefined ? undefined : BigInt(Math.round(o.payTimeoutMs)))),
        uuids(orders, (o) => o.sellerId),
        actor,
      ],
      tx,
    );
    this.countEntered(tx, orders, rowCount);
    this.db.writesFor(
      tx,
      orders.map((o) => o.userId),
    );
    return rowCount === orders.length;
  }

  override async find(id: bigint, userId: string | undefined, tx?: Transaction): Promise<Order | undefined> {
    const { rows } = await this.db.query<OrderRow>(FIND, [id, userId ?? null], tx);
    return rows[0] && orderOf(rows[0]);
  }

  override async findAll(ids: readonly bigint[], tx?: Transaction): Promise<readonly Order[]> {
    return (await this.db.query<OrderRow>(FIND_ALL, [int8s(ids, (id) => id)], tx)).rows.map(orderOf);
  }

  override async lock(tx: Transaction, id: bigint, userId: string | undefined): Promise<Order | undefined> {
    const { rows } = await askAgainIfGone(() => this.db.query<OrderRow>(LOCK, [id, userId ?? null], tx));
    return rows[0] && orderOf(rows[0]);
  }

  override async findStreamId(tx: Transaction, orderId: bigint): Promise<string | undefined> {
    const { rows } = await this.db.query<{ stream_id: string }>(FIND_STREAM_ID, [orderId], tx);
    return rows[0]?.stream_id;
  }

  override async findByRequest(userId: string, requestId: string): Promise<Order | undefined> {
    const { rows } = await this.db.query<OrderRow>(FIND_BY_REQUEST, [userId, requestId]);
    return rows[0] && orderOf(rows[0]);
  }

  override async findRequestIds(tx: Transaction, requests: readonly RequestId[]): Promise<Set<string>> {
    const given = requests.filter((r) => r.requestId !== '');
    if (given.length === 0) return new Set();
    const values = [uuids(given, (r) => r.userId), texts(given, (r) => r.requestId)];
    const { rows } = await this.db.query<RequestId>(FIND_REQUEST_IDS, values, tx);
    return new Set(rows.map((row) => requestKey(row) ?? ''));
  }

  override async list(
    userId: string,
    filter: OrderFilter,
    { offset, limit, afterId }: PageRequest & { readonly afterId?: bigint | undefined },
  ): Promise<Page<Order>> {
    const { values, ...statement } = list(filter, afterId);
    const { rows } = await this.reads.query<ListedRow>(userId, statement, [userId, offset, limit, ...values]);
    const items = rows.filter((row): row is ListedRow & OrderRow => row.id !== null).map(orderOf);
    return { items, total: rows[0]?.total ?? 0n };
  }

  override async listEvents(orderId: bigint): Promise<readonly OrderEvent[]> {
    const { rows } = await this.db.query<EventRow>(LIST_EVENTS, [orderId]);
    return rows.map((row) => ({
      from: row.from_status === null ? undefined : orderStatusOf(row.from_status),
      to: orderStatusOf(row.to_status),
      actor: row.actor,
      reason: row.reason,
      at: row.at,
    }));
  }

  override async lockOverdue(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]> {
    const { rows } = await this.db.query<OrderRow>(LOCK_OVERDUE, [limit, int8s(except, (id) => id)], tx);
    return rows.map(orderOf);
  }

  override async lockUnconfirmed(tx: Transaction, limit: number, except: readonly bigint[]): Promise<readonly Order[]> {
    const { rows } = await this.db.query<OrderRow>(LOCK_UNCONFIRMED, [limit, int8s(except, (id) => id)], tx);
    return rows.map(orderOf);
  }

  override async setReceiver(
    tx: Transaction,
    id: bigint,
    { receiver, freightFen }: { readonly receiver: Receiver; readonly freightFen: bigint },
  ): Promise<Order> {
    const { rows } = await this.db.query<OrderRow>(SET_RECEIVER, [id, JSON.stringify(receiver), freightFen], tx);
    if (!rows[0]) throw new Error(`order ${id} does not exist`);
    const order = orderOf(rows[0]);
    this.db.writesFor(tx, [order.userId]);
    return order;
  }

  override async hide(id: bigint, userId: string): Promise<boolean> {
    const { rowCount } = await this.db.run(async (tx) => {
      this.db.writesFor(tx, [userId]);
      return askAgainIfGone(() => this.db.query(HIDE, [id, userId], tx));
    });
    return rowCount === 1 || (await this.db.query(IS_HIDDEN, [id, userId])).rowCount === 1;
  }

  override async compareAndSet(tx: Transaction, order: Order, move: Move): Promise<Order | undefined> {
    if (order.status === 'COMPLETED') await this.db.query(UNARCHIVE, [order.id], tx);
    const { rows } = await this.db.query<OrderRow>(
      MOVE,
      [
        order.id,
        ORDER_STATUS[order.status],
        order.version,
        ORDER_STATUS[move.to],
        move.actor,
        move.reason,
        move.instanceId ?? null,
        move.confirmAfterMs === undefined ? null : BigInt(Math.round(move.confirmAfterMs)),
      ],
      tx,
    );
    if (rows[0]) this.db.afterCommit(tx, () => this.entered[move.to].add());
    this.db.writesFor(tx, [order.userId]);
    return rows[0] && orderOf(rows[0]);
  }

  override async completeAll(
    tx: Transaction,
    orderIds: readonly bigint[],
    from: Pick<Order, 'status' | 'orderType'>,
    actor: OrderActor,
  ): Promise<number> {
    const values = [int8s(orderIds, (id) => id), ORDER_STATUS[from.status], from.orderType, actor];
    const rowCount = (await this.db.query(COMPLETE_ALL, values, tx)).rowCount ?? 0;
    this.db.afterCommit(tx, () => this.entered.COMPLETED.add(rowCount));
    return rowCount;
  }

  override async setInstance(tx: Transaction, orderId: bigint, instanceId: bigint): Promise<boolean> {
    const { rowCount } = await this.db.query(SET_INSTANCE, [orderId, instanceId], tx);
    return rowCount === 1;
  }

  override async addRefund(tx: Transaction, orderId: bigint, { amountFen, units }: RefundedPart): Promise<void> {
    await this.db.query(ADD_REFUND, [orderId, amountFen, units], tx);
  }

  override async isCompletedWithin(tx: Transaction, orderId: bigint, windowMs: number): Promise<boolean> {
    const { rows } = await this.db.query<{ within: boolean }>(IS_COMPLETED_WITHIN, [orderId, windowMs], tx);
    return rows[0]?.within ?? false;
  }

  /** Where some were not inserted the caller rolls back. */
  private countEntered(
    tx: Transaction,
    orders: readonly { readonly status: OrderStatus }[],
    rows: number | null,
  ): void {
    if (rows !== orders.length) return;
    this.db.afterCommit(tx, () => {
      for (const { status } of orders) this.entered[status].add();
    });
  }
}

/**
 * A statement that waits for the lock of an order which then moves to the archive, or back, does not see where it went. The
 * next one does.
 */
async function askAgainIfGone<T extends { readonly rowCount: number | null }>(ask: () => Promise<T>): Promise<T> {
  const answer = await ask();
  return answer.rowCount === 0 ? ask() : answer;
}

function contentColumns(orders: readonly NewOrder[]): unknown[] {
  return [
    int8s(orders, (o) => o.content?.id),
    texts(orders, (o) => o.content?.type),
    int4s(orders, (o) => o.content?.days),
  ];
}

type ListedRow = { total: bigint } & (OrderRow | { id: null });

interface EventRow {
  from_status: number | null;
  to_status: number;
  actor: OrderActor;
  reason: string;
  at: Date;
}
