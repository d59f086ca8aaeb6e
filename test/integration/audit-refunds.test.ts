import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { Refund } from '../../internal/biz/order/refund-state.js';
import { violationsOf } from '../support/audit.js';
import { RECEIVER, type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

/** Each case breaks what its own order has, so the violations of the others may stay. */
describe('kaimai audit reports of refunds and payments', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let owner: pg.Client;

  before(async () => {
    replica = await startReplica(servers);
    // The owner of the database, who may also remove what prevents the damage.
    owner = new pg.Client({ connectionString: servers.postgresUrl });
    await owner.connect();
    await owner.query(`
      ALTER TABLE orders DROP CONSTRAINT orders_kept_within_quantity, DROP CONSTRAINT orders_refunded_within_amount;
      ALTER TABLE order_items DROP CONSTRAINT order_items_refunded_once;
      DROP INDEX uk_stock_moves_refund`);
  });
  after(async () => {
    await owner?.end();
    await replica?.close();
  });

  let users = 39_000;
  /** A paid order of three units of a sku, and the refund of one of them, paid back. */
  const refundedLine = async (): Promise<{ order: Order; refund: Refund; skuId: bigint }> => {
    const { id: skuId } = await replica.sku(10n);
    const userId = formatUserId(String(++users));
    const { id } = await replica.goodsOrders.create({
      ...{ userId, lines: [{ skuId, quantity: 3 }], receiver: RECEIVER, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
    const notice = { orderId: id, userId: undefined, provider: 'p', eventId: `pay-${id}`, amountFen: undefined };
    const order = await replica.orders.markPaid(notice);
    const lines = [{ skuId, quantity: 1 }];
    const refund = await replica.refundRequests.request({ orderId: id, userId, reason: 'r', lines, requestId: '' });
    for (const claim of await replica.refunds.claim(10)) await replica.refunds.payOut(claim);
    return { order, refund, skuId };
  };
  type Refunded = Awaited<ReturnType<typeof refundedLine>>;
  const payment = async ({ order: { id } }: Refunded) => {
    const [row] = await replica.rows<{ id: bigint }>('SELECT id FROM payments WHERE order_id = $1', id);
    return `12 payment ${row?.id}`;
  };

  /** @param damage returns the violation that must be reported, or its beginning */
  const reports = (invariant: number, what: string, damage: (refunded: Refunded) => Promise<string>) =>
    it(`${invariant}: ${what}`, async () => {
      const refunded = await refundedLine();
      const audit = () => violationsOf(replica.db, replica.redis, [invariant]);
      const before = await audit();
      const expected = await damage(refunded);
      assert.equal(
        before.some((v) => v.startsWith(expected)),
        false,
        `${expected} was violated before`,
      );
      const found = await audit();
      assert.ok(
        found.some((v) => v.startsWith(expected)),
        `${expected} is not among\n${found.join('\n')}`,
      );
    });

  reports(12, 'a payment of which more was refunded than it was', async (refunded) => {
    await replica.rows('UPDATE refunds SET amount = amount * 4 WHERE id = $1', refunded.refund.id);
    return payment(refunded);
  });
  reports(12, 'an order that is cancelled, with a part of its payment refunded', async (refunded) => {
    await replica.rows(`UPDATE orders SET status = 2, close_reason = 'REFUNDED' WHERE id = $1`, refunded.order.id);
    return payment(refunded);
  });
  reports(12, 'a paid order with a granted refund that is not of lines', async (refunded) => {
    await replica.rows(`UPDATE refunds SET kind = 'WHOLE', lines = NULL WHERE id = $1`, refunded.refund.id);
    return payment(refunded);
  });
  reports(12, 'a payment session that nothing has ended', async ({ order }) => {
    await replica.rows(
      `INSERT INTO payment_sessions (id, order_id, provider, amount, expires_at, next_look_up_at)
       VALUES ($1, $1, 'p', 1, now() - interval '2 days', now())`,
      order.id,
    );
    return `12 payment session ${order.id}`;
  });
  reports(13, 'a refund whose units did not come back', async ({ refund, skuId }) => {
    await owner.query('DELETE FROM stock_moves WHERE refund_id = $1', [refund.id]);
    return `13 refund ${refund.id}, sku ${skuId}`;
  });
  reports(13, 'a unit that came back twice', async ({ refund, skuId }) => {
    await owner.query(
      `INSERT INTO stock_moves (kind, sku_id, order_id, units, stock_delta, lock_delta, refund_id)
       SELECT kind, sku_id, order_id, units, stock_delta, lock_delta, refund_id FROM stock_moves WHERE refund_id = $1`,
      [refund.id],
    );
    return `13 refund ${refund.id}, sku ${skuId}`;
  });
  reports(13, 'units that came back while the order still counts them as sold', async ({ order }) => {
    await replica.rows('UPDATE orders SET kept_quantity = 3 WHERE id = $1', order.id);
    return `13 order ${order.id}`;
  });
  reports(15, 'a line of which more was refunded than was bought', async ({ order, skuId }) => {
    await replica.rows('UPDATE order_items SET refunded_quantity = 4 WHERE order_id = $1', order.id);
    return `15 order ${order.id}, sku ${skuId}`;
  });
  reports(15, 'an order that was refunded by more than it says', async ({ order }) => {
    await replica.rows('UPDATE orders SET refunded_amount = 0 WHERE id = $1', order.id);
    return `15 order ${order.id}`;
  });
  reports(15, 'an order that is REFUNDING without a refund of the whole', async ({ order }) => {
    await replica.rows('UPDATE orders SET status = 5 WHERE id = $1', order.id);
    return `15 order ${order.id}`;
  });
  reports(15, 'a refund that waits longer than a day', async ({ refund }) => {
    await replica.rows(
      `UPDATE refunds SET status = 'REQUESTED', done_at = NULL, created_at = now() - interval '2 days' WHERE id = $1`,
      refund.id,
    );
    return `15 refund ${refund.id}`;
  });
  reports(15, 'a refund that failed', async ({ refund }) => {
    await replica.rows(`UPDATE refunds SET status = 'FAILED', done_at = NULL WHERE id = $1`, refund.id);
    return `15 refund ${refund.id}`;
  });
});
