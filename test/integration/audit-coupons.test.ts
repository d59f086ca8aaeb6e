import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { UserCoupon } from '../../internal/biz/pricing/user-coupon.js';
import { violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

/** Each case breaks what its own order has, so the violations of the others may stay. */
describe('kaimai audit reports of coupons and discounts', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let owner: pg.Client;

  before(async () => {
    replica = new SeckillReplica(servers);
    await replica.start();
    // The owner of the database, who may also remove what prevents the damage.
    owner = new pg.Client({ connectionString: servers.postgresUrl });
    await owner.connect();
    await owner.query('ALTER TABLE coupons DROP CONSTRAINT coupons_within_total');
  });
  after(async () => {
    await owner?.end();
    await replica?.close();
  });

  let users = 67_000;
  interface Held {
    readonly order: Order;
    readonly mine: UserCoupon;
    readonly pay: () => Promise<Order>;
  }
  /** An unpaid order that holds a coupon. */
  const held = async (): Promise<Held> => {
    const { id: skuId } = await replica.sku(10n);
    const userId = formatUserId(String(++users));
    const coupon = await replica.coupons.create({
      ...{ name: '10 off', value: { kind: 'AMOUNT', offFen: 1_000n }, scope: { kind: 'ALL' }, enabled: true },
      ...{ startsAt: new Date(0), endsAt: undefined, total: 100n, limitPerUser: 1 },
    });
    const mine = await replica.userCoupons.claim(coupon.id, { userId, requestId: '' });
    const order = await replica.goodsOrders.create({
      ...{ userId, couponId: mine.id, lines: [{ skuId, quantity: 3 }], receiver: RECEIVER, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
    const notice = {
      orderId: order.id,
      userId: undefined,
      provider: 'p',
      eventId: `e-${order.id}`,
      amountFen: undefined,
    };
    return { order, mine, pay: () => replica.orders.markPaid(notice) };
  };

  /** @param damage returns the violation that must be reported, or its beginning */
  const reports = (what: string, damage: (held: Held) => Promise<string>) =>
    it(`17: ${what}`, async () => {
      const one = await held();
      const audit = () => violationsOf(replica.db, replica.redis, [17]);
      const before = await audit();
      const expected = await damage(one);
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
  const ofUser = ({ mine }: Held) => `17 coupon of user ${mine.id}`;

  it('17: finds nothing while a coupon is held, used, given back and freed', async () => {
    const [paid, cancelled] = [await held(), await held()];
    const audit = () => violationsOf(replica.db, replica.redis, [17]);
    assert.deepEqual(await audit(), []);
    const { id: orderId, userId } = await paid.pay();
    assert.deepEqual(await audit(), []);
    await replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' });
    for (const claim of await replica.refunds.claim(10)) await replica.refunds.payOut(claim);
    await replica.orders.cancel(cancelled.order.id, cancelled.order.userId, '');
    assert.deepEqual(await audit(), []);
  });

  reports('a coupon that counts more as given out than users have', async ({ mine }) => {
    await replica.rows('UPDATE coupons SET claimed = claimed + 1 WHERE id = $1', mine.coupon.id);
    return `17 coupon ${mine.coupon.id}`;
  });
  reports('a coupon of which more were given out than there are', async ({ mine }) => {
    await replica.rows('UPDATE coupons SET total = 0 WHERE id = $1', mine.coupon.id);
    return `17 coupon ${mine.coupon.id}`;
  });
  reports('a coupon that a paid order still holds', async (one) => {
    await one.pay();
    await replica.rows(`UPDATE user_coupons SET status = 'HELD' WHERE id = $1`, one.mine.id);
    return ofUser(one);
  });
  reports('a coupon that a cancelled order still holds', async (one) => {
    await replica.rows('UPDATE orders SET status = 2 WHERE id = $1', one.order.id);
    return ofUser(one);
  });
  reports('a coupon that an unpaid order has used', async (one) => {
    await replica.rows(`UPDATE user_coupons SET status = 'USED' WHERE id = $1`, one.mine.id);
    return ofUser(one);
  });
  reports('a coupon that an order used which was never paid', async (one) => {
    await replica.rows(`UPDATE user_coupons SET status = 'USED' WHERE id = $1`, one.mine.id);
    await replica.rows('UPDATE orders SET status = 2 WHERE id = $1', one.order.id);
    return ofUser(one);
  });
  reports('an unpaid order whose coupon is free for another order', async (one) => {
    await replica.rows(`UPDATE user_coupons SET status = 'UNUSED', order_id = NULL WHERE id = $1`, one.mine.id);
    return ofUser(one);
  });
  reports('a coupon that the order of another user holds', async (one) => {
    await replica.rows('UPDATE user_coupons SET user_id = gen_random_uuid() WHERE id = $1', one.mine.id);
    return ofUser(one);
  });
  reports('a coupon held by an order that has no discount of it', async (one) => {
    const { coupon, userId } = one.mine;
    const [twin] = await replica.userCoupons.grant(coupon.id, [userId], '');
    await replica.rows(`UPDATE user_coupons SET status = 'UNUSED', order_id = NULL WHERE id = $1`, one.mine.id);
    await replica.rows(`UPDATE user_coupons SET status = 'HELD', order_id = $1 WHERE id = $2`, one.order.id, twin?.id);
    return `17 coupon of user ${twin?.id}`;
  });
  reports('an order whose discounts do not add up to its promotion amount', async ({ order }) => {
    await owner.query('UPDATE order_discounts SET amount = amount - 1 WHERE order_id = $1', [order.id]);
    return `17 order ${order.id}:`;
  });
  reports('an order with a promotion amount and no discount', async ({ order }) => {
    await owner.query('DELETE FROM order_discounts WHERE order_id = $1', [order.id]);
    return `17 order ${order.id}:`;
  });
  reports('an order with a discount and no promotion amount', async ({ order }) => {
    await replica.rows(
      'UPDATE orders SET promotion_amount = 0, amount = amount + promotion_amount WHERE id = $1',
      order.id,
    );
    return `17 order ${order.id}:`;
  });
  reports('a line whose share differs from its discounts', async ({ order }) => {
    await replica.rows('UPDATE order_items SET promotion_amount = promotion_amount - 1 WHERE order_id = $1', order.id);
    return `17 order ${order.id}, sku ${order.items[0]?.skuId}:`;
  });
});
