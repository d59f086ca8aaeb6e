import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { projectRoot } from '../../internal/local/project.js';
import { newContent } from '../contract/content.js';
import { violationsOf } from '../support/audit.js';
import { SeckillReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

const RECEIVER = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };

describe('kaimai audit of opened contents', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;
  before(async () => {
    replica = new SeckillReplica(servers);
    await replica.start();
  });
  after(() => replica?.close());

  let users = 77_000;
  const sql = (text: string, ...values: unknown[]) => replica.db.pool.query(text, values);
  const pay = (orderId: bigint) =>
    replica.orders.markPaid({
      ...{ orderId, userId: undefined, provider: 'p', eventId: `pay-${orderId}`, amountFen: undefined },
    });
  const buyContent = async (accessDays?: number): Promise<Order> => {
    const { id: contentId } = await replica.contents.create(newContent({ accessDays }));
    const userId = formatUserId(String(++users));
    const { id } = await replica.contentOrders.create({
      ...{ userId, contentId, quantity: 1, remark: '', requestId: '', expectedAmountFen: undefined },
    });
    return pay(id);
  };
  const buyGoods = async (quantity: number, ...days: readonly number[]): Promise<Order> => {
    const sku = await replica.sku(10n);
    const contents = await Promise.all(days.map(() => replica.contents.create(newContent())));
    await replica.contents.setSkuContents(
      sku.id,
      contents.map((c, i) => ({ contentId: c.id, days: days[i] })),
    );
    const userId = formatUserId(String(++users));
    const { id } = await replica.goodsOrders.create({
      ...{ userId, lines: [{ skuId: sku.id, quantity }], receiver: RECEIVER, remark: '', requestId: '' },
      ...{ expectedAmountFen: undefined, couponId: undefined },
    });
    return pay(id);
  };
  const violations = () => violationsOf(replica.db, replica.redis, [10]);
  const entitlements = async ({ userId }: Order) => (await replica.entitlements.list(userId, undefined, 0, '')).items;
  const daysOf = async (order: Order) =>
    (await entitlements(order)).map((e) => e.endsAt && (e.endsAt.getTime() - e.startsAt.getTime()) / 86_400_000);
  const kaimai = (...args: string[]) =>
    new Promise<{ code: number; out: string; err: string }>((resolve) => {
      execFile(
        process.execPath,
        [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'audit', '--only', '10', ...args],
        { env: { ...process.env, ...servers.env() }, timeout: 120_000 },
        (error, out, err) => resolve({ code: error ? Number(error.code) : 0, out, err }),
      );
    });

  it('reports each order whose contents are not open, and each that keeps them though it is cancelled', async () => {
    assert.deepEqual(await violations(), []);
    const goods = await buyGoods(1, 30, 10);
    const [, second] = await entitlements(goods);
    const completed = await buyContent();
    const paid = await buyContent();
    const cancelled = await buyContent();
    await sql('UPDATE order_content_association SET order_id = NULL WHERE id = $1', second!.id);
    await sql('UPDATE order_content_association SET order_id = NULL WHERE order_id = $1', completed.id);
    await sql('UPDATE orders SET status = 1, completed_at = NULL WHERE id = $1', paid.id);
    await sql("UPDATE orders SET status = 2, close_reason = 'REFUNDED' WHERE id = $1", cancelled.id);
    const [kept] = await entitlements(cancelled);
    assert.deepEqual((await violations()).sort(), [
      `10 entitlement ${kept?.id}: ACTIVE, though order ${cancelled.id} is CANCELLED`,
      ...[
        `10 order ${goods.id}: PAID, but its buyer has no entitlement to content ${second?.contentId}`,
        `10 order ${completed.id}: COMPLETED, but its buyer has no entitlement to content ${completed.content?.id}`,
        `10 order ${paid.id}: PAID, though its content is opened`,
      ].sort(),
    ]);
    // Repaired by hand, so that the next test begins without them.
    await sql('UPDATE order_content_association SET order_id = $2 WHERE id = $1', second!.id, goods.id);
    await sql('UPDATE order_content_association SET order_id = $2 WHERE user_id = $1', completed.userId, completed.id);
    await sql('UPDATE orders SET status = 3, completed_at = now() WHERE id = $1', paid.id);
    await sql("UPDATE order_content_association SET status = 'REVOKED' WHERE id = $1", kept!.id);
    assert.deepEqual(await violations(), []);
  });

  it('repairs with --fix --yes what --fix says, and only that', async () => {
    const goods = await buyGoods(2, 30);
    const shortened = await buyGoods(3, 30);
    const { skuId } = shortened.items[0]!;
    await replica.refundRequests.request({
      ...{ orderId: shortened.id, userId: shortened.userId, reason: 'r', requestId: '' },
      lines: [{ skuId, quantity: 1 }],
    });
    for (const claim of await replica.refunds.claim(10)) assert.equal(await replica.refunds.payOut(claim), 'done');
    assert.deepEqual([await daysOf(goods), await daysOf(shortened)], [[60], [60]]);
    const completed = await buyContent();
    const paid = await buyContent(7);
    const damaged = [goods, shortened, completed, paid];
    const lost = formatUserId('76999');
    for (const { id } of damaged) {
      await sql('UPDATE order_content_association SET order_id = NULL, user_id = $2 WHERE order_id = $1', id, lost);
    }
    await sql('UPDATE orders SET status = 1, completed_at = NULL WHERE id = $1', paid.id);

    const plan = await kaimai('--fix');
    assert.equal(plan.code, 1, plan.err);
    for (const { id, userId } of damaged) {
      assert.match(plan.out, new RegExp(`^fix: order ${id}: would open \\d+ to user ${userId} \\(`, 'm'));
    }
    assert.match(plan.out, /nothing was changed; --yes does it/);
    assert.deepEqual(await entitlements(goods), []);

    const fixed = await kaimai('--fix', '--yes');
    assert.deepEqual([fixed.code, fixed.err], [0, '']);
    assert.equal(fixed.out.match(/: done$/gm)?.length, 4);
    assert.deepEqual(
      [await daysOf(goods), await daysOf(shortened), await daysOf(completed), await daysOf(paid)],
      [[60], [60], [undefined], [7]],
    );
    assert.equal((await replica.orders.get(paid.id, undefined)).status, 'COMPLETED');
    assert.deepEqual(await violations(), []);
    assert.match((await kaimai('--fix', '--yes')).out, /^invariants 10: all hold\n$/);
    assert.equal((await kaimai('--yes')).code, 2);
  });
});
