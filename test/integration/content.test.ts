import assert from 'node:assert/strict';
import {
  isContentAlreadyOwned,
  isContentNotFound,
  isContentNotOnSale,
  isContentVersionConflict,
  isEntitlementNotFound,
  isGrantRequestReused,
} from '../../gen/content/v1/errors.js';
import { ContentChanged } from '../../gen/content/v1/event.js';
import { isOrderCancelled, isRefundNotPossible, isRequestIdReused } from '../../gen/order/v1/errors.js';
import type { Content, NewContent } from '../../internal/biz/catalog/content.js';
import type { SkuContent } from '../../internal/biz/catalog/sku-content.js';
import { TOPIC_CONTENT_CHANGED } from '../../internal/biz/catalog/title-change.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import type { SeckillConsumer } from '../../internal/server/seckill-consumer.js';
import { ContentEventService } from '../../internal/service/content-event.js';
import { newContent } from '../contract/content.js';
import { violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const DAY_MS = 86_400_000;
const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

describe('contents and entitlements', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  let other: SeckillReplica;
  let consumer: SeckillConsumer;
  before(async () => {
    replica = new SeckillReplica(servers);
    other = new SeckillReplica(servers);
    await Promise.all([replica.start(), other.start()]);
    consumer = replica.consumer('contents');
    await consumer.start();
  });
  after(async () => {
    await consumer?.stop(AbortSignal.timeout(10_000));
    await Promise.all([replica?.close(), other?.close()]);
  });
  afterEach(async () => {
    replica.entitlementClock.offsetMs = 0;
    other.entitlementClock.offsetMs = 0;
    assert.deepEqual(await violationsOf(replica.db, replica.redis, [1, 2, 3, 5, 6, 10, 12, 13, 15]), []);
  });

  let users = 27_000;
  const freshUser = () => formatUserId(String(++users));
  const content = (changes: Partial<NewContent> = {}): Promise<Content> => replica.contents.create(newContent(changes));
  const order = (userId: string, { id: contentId }: Content, requestId = '') =>
    replica.contentOrders.create({
      ...{ userId, contentId, quantity: 1, remark: '', requestId, expectedAmountFen: undefined },
    });
  const pay = ({ id: orderId }: Pick<Order, 'id'>, on = replica) =>
    on.orders.markPaid({
      ...{ orderId, userId: undefined, provider: 'p', eventId: `pay-${orderId}`, amountFen: undefined },
    });
  const buy = async (userId: string, bought: Content) => pay(await order(userId, bought));
  const has = async (userId: string, { id: contentId }: Content, on = replica) =>
    (await on.entitlements.check({ userId, contentId })).hasAccess;
  const until = async (userId: string, { id: contentId }: Content) => {
    const state = await replica.entitlements.check({ userId, contentId });
    return state.hasAccess ? state.until : undefined;
  };
  /** Days of access that are left, to the hour. */
  const daysLeft = async (userId: string, bought: Content) => {
    const end = await until(userId, bought);
    return end && Math.round(((end.getTime() - Date.now()) / DAY_MS) * 24) / 24;
  };
  const listOf = async (userId: string) => (await replica.entitlements.list(userId, undefined, 0, '')).items;
  const refundAll = async () => {
    for (const claim of await replica.refunds.claim(100)) assert.equal(await replica.refunds.payOut(claim), 'done');
  };
  const refund = async ({ id: orderId, userId }: Order, lines: readonly { skuId: bigint; quantity: number }[] = []) => {
    const { id, status } = await replica.refundRequests.request({ orderId, userId, reason: 'r', lines, requestId: '' });
    if (status === 'REQUESTED') await replica.refunds.approve(id);
    await refundAll();
    return id;
  };
  const get = ({ id }: Pick<Order, 'id'>) => replica.orders.get(id, undefined);
  const skuOpening = async (...contents: readonly SkuContent[]) => {
    const sku = await replica.sku(50n);
    await replica.contents.setSkuContents(sku.id, contents);
    return sku;
  };

  it('shows unpublished contents to operators only, and continues lists by page tokens', async () => {
    const mark = `m${freshUser()}`;
    const hidden = await content({ title: `${mark} a`, publishStatus: 'UNPUBLISHED' });
    const shown = [await content({ title: `${mark} b` }), await content({ title: `${mark} c` })];
    await assert.rejects(replica.contents.get(hidden.id, 'public'), isContentNotFound);
    assert.equal((await replica.contents.get(hidden.id, 'operator')).title, `${mark} a`);
    const list = (viewer: 'public' | 'operator', limit: number, token = '') =>
      replica.contents.list({ title: mark }, viewer, limit, token);
    const first = await list('public', 1);
    assert.deepEqual(first.items, [shown[1]]);
    const second = await list('public', 1, first.nextPageToken);
    assert.deepEqual([second.items, second.nextPageToken], [[shown[0]], '']);
    assert.equal((await list('operator', 9)).items.length, 3);
    await assert.rejects(order(freshUser(), hidden), isContentNotOnSale);
    await assert.rejects(replica.contents.update(hidden.id, 7n, { title: 'x' }), isContentVersionConflict);
  });

  it('opens a content and completes its order in the transaction that pays', async () => {
    const [userId, bought] = [freshUser(), await content()];
    const pending = await order(userId, bought, 'once');
    assert.deepEqual([pending.orderType, pending.status, pending.productName], ['CONTENT', 'PENDING', bought.title]);
    assert.equal(await has(userId, bought), false);
    assert.equal((await order(userId, bought, 'once')).id, pending.id);
    await assert.rejects(order(userId, await content(), 'once'), isRequestIdReused);
    const paid = await pay(pending);
    assert.equal(paid.status, 'COMPLETED');
    assert.deepEqual(
      (await replica.orders.listEvents(paid.id, userId)).map((e) => e.to),
      ['PENDING', 'PAID', 'COMPLETED'],
    );
    assert.equal(await has(userId, bought), true);
    assert.equal((await pay(pending)).status, 'COMPLETED', 'the same payment again');
    assert.equal((await listOf(userId)).length, 1);
    assert.equal((await order(userId, bought, 'once')).id, pending.id, 'a repeated request finds its order');
    await assert.rejects(order(userId, bought), isContentAlreadyOwned);
  });

  it('opens nothing for a payment that comes after the cancellation', async () => {
    const [userId, bought] = [freshUser(), await content()];
    const pending = await order(userId, bought);
    await replica.orders.cancel(pending.id, userId, '');
    await assert.rejects(pay(pending), isOrderCancelled);
    assert.equal(await has(userId, bought), false);
    await refundAll();
  });

  it('refunds the second of two racing orders of a permanent content, on two replicas', async () => {
    for (let round = 0; round < 5; round++) {
      const [userId, bought] = [freshUser(), await content()];
      const [a, b] = [await order(userId, bought), await order(userId, bought)];
      await Promise.all([pay(a), pay(b, other)]);
      const statuses = (await Promise.all([get(a), get(b)])).map((o) => o.status).sort();
      assert.deepEqual(statuses, ['COMPLETED', 'REFUNDING']);
      await refundAll();
      assert.deepEqual((await Promise.all([get(a), get(b)])).map((o) => o.closeReason).sort(), ['', 'REFUNDED']);
      assert.equal(await has(userId, bought), true);
      assert.equal((await listOf(userId)).length, 1);
    }
  });

  it('prolongs temporary access from its end, also for racing payments', async () => {
    const [userId, bought] = [freshUser(), await content({ accessDays: 30 })];
    await buy(userId, bought);
    assert.equal(await daysLeft(userId, bought), 30);
    const more = await Promise.all([1, 2, 3].map(() => order(userId, bought)));
    await Promise.all(more.map((o, i) => pay(o, i % 2 === 0 ? replica : other)));
    assert.equal(await daysLeft(userId, bought), 120);
  });

  it('takes back by a refund what its order opened, and leaves what other orders opened', async () => {
    const [userId, bought] = [freshUser(), await content({ accessDays: 30 })];
    const first = await buy(userId, bought);
    await buy(userId, bought);
    await refund(first);
    assert.equal((await get(first)).status, 'CANCELLED');
    assert.equal(await daysLeft(userId, bought), 30, 'the second order begins at once');
    assert.deepEqual(
      (await listOf(userId)).map((e) => e.status),
      ['ACTIVE', 'REVOKED'],
    );
    await assert.rejects(refund(first), isRefundNotPossible);
  });

  it('refuses a refund that is asked for after the window, and keeps the access of one that is refused', async () => {
    const [userId, bought] = [freshUser(), await content()];
    const { id: orderId } = await buy(userId, bought);
    const { id } = await replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' });
    assert.equal((await get({ id: orderId })).status, 'REFUNDING');
    await replica.refunds.refuse(id, 'no');
    assert.equal((await get({ id: orderId })).status, 'COMPLETED');
    assert.equal(await has(userId, bought), true);
    await replica.db.pool.query(
      `UPDATE orders SET completed_at = completed_at - interval '2 minutes', paid_at = paid_at - interval '2 minutes' WHERE id = $1`,
      [orderId],
    );
    await assert.rejects(
      replica.refundRequests.request({ orderId, userId, reason: 'r', lines: [], requestId: '' }),
      isRefundNotPossible,
    );
  });

  it('opens the contents of goods as they were sold, and takes back those of refunded units', async () => {
    const userId = freshUser();
    const [month, forever] = [await content(), await content()];
    const card = await skuOpening({ contentId: month.id, days: 30 });
    const box = await skuOpening({ contentId: month.id, days: 5 }, { contentId: forever.id, days: undefined });
    const pending = await replica.goodsOrders.create({
      ...{ userId, receiver: RECEIVER, remark: '', requestId: '', expectedAmountFen: undefined, couponId: undefined },
      lines: [
        { skuId: card.id, quantity: 2 },
        { skuId: box.id, quantity: 1 },
      ],
    });
    await replica.contents.setSkuContents(card.id, []);
    const bought = await pay(pending);
    assert.equal(bought.status, 'PAID');
    assert.deepEqual([await daysLeft(userId, month), await has(userId, forever)], [65, true]);
    await refund(bought, [{ skuId: card.id, quantity: 1 }]);
    assert.equal(await daysLeft(userId, month), 35);
    await refund(bought, [{ skuId: box.id, quantity: 1 }]);
    assert.deepEqual([await daysLeft(userId, month), await has(userId, forever)], [30, false]);
    await refund(bought);
    assert.deepEqual([await has(userId, month), (await get(bought)).status], [false, 'CANCELLED']);
  });

  for (const payMode of ['PREPAID', 'PAY_LATER'] as const) {
    it(`opens the contents of goods that a ${payMode} sale sells`, async () => {
      const opened = await content();
      const sku = await skuOpening({ contentId: opened.id, days: 30 });
      await replica.openSaleOf(sku.id, { total: 20n, payMode });
      const buyers = Array.from({ length: 8 }, freshUser);
      await Promise.all(buyers.map((userId) => replica.buy(sku.id, userId)));
      await eventually('the stream is empty', () => replica.idle(sku.id));
      const orders = await replica.rows<{ id: bigint }>('SELECT id FROM orders WHERE sku_id = $1', sku.id);
      assert.equal(orders.length, 8);
      if (payMode === 'PAY_LATER') {
        assert.equal(await has(buyers[0]!, opened), false);
        await Promise.all(orders.map((o) => pay(o)));
      }
      for (const userId of buyers) assert.equal(await daysLeft(userId, opened), 30);
    });

    it(`sells a content in a ${payMode} sale, once to each buyer who does not own it`, async () => {
      const sold = await content({ priceFen: 500n });
      const [owner, ...buyers] = Array.from({ length: 6 }, freshUser);
      await buy(owner!, sold);
      await replica.openSaleOf(sold.id, { total: 10n, payMode, defaultLimit: 2 });
      for (const userId of [owner!, ...buyers, buyers[0]!]) {
        assert.equal((await replica.buy(sold.id, userId)).kind, 'QUEUED');
      }
      await eventually('the stream is empty', () => replica.idle(sold.id));
      const rejected = await replica.rows<{ reason: string }>(
        `SELECT reason FROM stream_inbox WHERE item_id = $1 AND outcome = 'REJECTED'`,
        sold.id,
      );
      const sales = () =>
        replica.rows<Order>(`SELECT id, status FROM orders WHERE content_id = $1 AND sale_id IS NOT NULL`, sold.id);
      if (payMode === 'PREPAID') {
        assert.deepEqual(
          rejected.map((r) => r.reason),
          ['CONTENT_ALREADY_OWNED', 'CONTENT_ALREADY_OWNED'],
        );
      } else {
        assert.deepEqual(
          rejected.map((r) => r.reason),
          ['CONTENT_ALREADY_OWNED'],
        );
        for (const o of await sales()) await pay(o);
        await refundAll();
        await replica.relayReturns();
      }
      for (const userId of buyers) assert.equal(await has(userId, sold), true);
      const completed = (await sales()).filter((o) => Number(o.status) === 3);
      assert.equal(completed.length, 5);
    });
  }

  it('sells no more than one access in an order', async () => {
    const sold = await content();
    await replica.openSaleOf(sold.id, { total: 10n, defaultLimit: 5 });
    await assert.rejects(replica.buy(sold.id, freshUser(), '', '', 2), /quantity 1/);
    await replica.add(sold.id, 'uid', freshUser(), 'qty', '2');
    await eventually('the stream is empty', () => replica.idle(sold.id));
    const [letter] = await replica.rows<{ reason: string }>(
      'SELECT reason FROM dead_letters WHERE origin = $1',
      `stream:seckill:${sold.id}`,
    );
    assert.equal(letter?.reason, 'qty must be 1 for a content');
  });

  it('ends access by the clock, also while the job that expires it is late', async () => {
    const [userId, bought] = [freshUser(), await content({ accessDays: 30 })];
    await buy(userId, bought);
    other.entitlementClock.offsetMs = 29 * DAY_MS;
    assert.equal(await has(userId, bought, other), true);
    other.entitlementClock.offsetMs = 30 * DAY_MS + 1_000;
    assert.equal(await has(userId, bought, other), false);
    assert.equal((await listOf(userId))[0]?.status, 'ACTIVE');
    while ((await other.entitlements.expire()).full) {}
    assert.equal((await listOf(userId))[0]?.status, 'EXPIRED');
    assert.equal(await has(userId, bought, other), false);
  });

  it('expires on two replicas at once, each entitlement once', async () => {
    const bought = await content();
    await replica.db.pool.query(
      `INSERT INTO order_content_association (user_id, content_id, content_title, content_type, access_type,
         access_start_time, access_end_time)
       SELECT ('00000000-0000-8000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, $1, 't', 'COURSE', 'TEMPORARY',
         now() - interval '2 days', now() - interval '1 day' FROM generate_series(1, 1000) n`,
      [bought.id],
    );
    const counts = await Promise.all(
      [replica, other].map(async (r) => {
        let sum = 0;
        for (let n = 1; n > 0; sum += n) n = (await r.entitlements.expire()).expired;
        return sum;
      }),
    );
    assert.equal(counts[0]! + counts[1]!, 1_000);
  });

  it('grants once for each request, and revokes at once', async () => {
    const [userId, given] = [freshUser(), await content()];
    const grant = (days: number | undefined, requestId: string) =>
      replica.entitlements.grant({ userId, contentId: given.id, days, requestId, reason: 'gift' });
    const first = await grant(7, 'a');
    assert.deepEqual(await grant(7, 'a'), first);
    await assert.rejects(grant(8, 'a'), isGrantRequestReused);
    await grant(3, 'b');
    assert.equal(await daysLeft(userId, given), 10);
    await assert.rejects(
      replica.entitlements.grant({ userId, contentId: 999_999_999n, days: 1, requestId: 'c', reason: '' }),
      isContentNotFound,
    );
    const revoke = (id?: bigint) => replica.entitlements.revoke({ userId, contentId: given.id, id, reason: 'shared' });
    assert.equal(await revoke(first.id), 1);
    assert.equal(await daysLeft(userId, given), 3);
    assert.equal(await revoke(), 1);
    assert.equal(await has(userId, given, other), false);
    assert.equal(await revoke(), 0);
    await assert.rejects(
      replica.entitlements.revoke({ userId: freshUser(), contentId: given.id, id: undefined, reason: 'x' }),
      isEntitlementNotFound,
    );
  });

  it('brings a changed title to entitlements, with repeated and reordered messages, while buyers buy', async () => {
    const service = new ContentEventService(replica.entitlements);
    let changing = await content({ title: 'v1' });
    const bought = changing;
    const buyers = Array.from({ length: 24 }, freshUser);
    const buying = Promise.all(
      [0, 1, 2].map(async (lane) => {
        for (const userId of buyers.filter((_, i) => i % 3 === lane)) await buy(userId, bought);
      }),
    );
    const payloads: Uint8Array[] = [];
    for (let i = 2; i <= 6; i++) {
      changing = await replica.contents.update(changing.id, changing.version, { title: `v${i}` });
      await replica.relay(TOPIC_CONTENT_CHANGED);
      payloads.push(...replica.contentQueue.messages.splice(0).map((m) => m.payload));
      await service.handle([payloads.at(-1)!, payloads[0]!].map(deliveryOf));
    }
    await buying;
    assert.deepEqual(
      payloads.map((p) => ContentChanged.decode(p).title),
      ['v2', 'v3', 'v4', 'v5', 'v6'],
    );
    // The consumer may have been slower than the buyers: the last messages come again, and the oldest at the end.
    assert.deepEqual(
      await service.handle([payloads[4]!, payloads[1]!, Buffer.from('no message'), payloads[0]!].map(deliveryOf)),
      ['accept', 'accept', 'reject', 'accept'],
    );
    const titles = await Promise.all(buyers.map(async (userId) => (await listOf(userId))[0]?.contentTitle));
    assert.deepEqual([...new Set(titles)], ['v6']);
    const [snapshot] = (await replica.orders.list(buyers[0]!, {}, { offset: 0, limit: 1 })).items;
    assert.equal(snapshot?.productName, 'v1', 'orders keep what they were sold with');
  });
});

function deliveryOf(payload: Uint8Array) {
  return { payload, headers: {}, redelivered: false };
}
