import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import { orderTimeline } from '../../internal/data/postgres/operations.js';
import { type SeckillReplica, startReplica } from '../support/seckill.js';
import { useServers } from '../support/servers.js';

describe('The time line of an order', () => {
  const servers = useServers('postgres', 'redis');
  let replica: SeckillReplica;

  before(async () => {
    replica = await startReplica(servers);
  });
  after(() => replica?.close());

  it('shows its refund from the request to the payout', async () => {
    const { id: skuId } = await replica.sku(10n);
    const receiver = { name: '张三', phone: '13800000000', region: '310115', address: 'Century Avenue 1' };
    const { id: orderId, userId } = await replica.goodsOrders.create({
      ...{ userId: formatUserId('1'), lines: [{ skuId, quantity: 1 }], receiver, remark: '', requestId: '' },
      expectedAmountFen: undefined,
    });
    await replica.orders.markPaid({ orderId, userId: undefined, provider: 'p', eventId: 'e', amountFen: undefined });
    const { id } = await replica.refundRequests.request({
      ...{ orderId, userId, reason: 'no need', lines: [], requestId: '' },
    });
    const refundLines = async () =>
      (await orderTimeline(replica.db, orderId)).filter((e) => e.source === 'refund').map((e) => e.text);
    const requested = `refund ${id} (WHOLE) of 9900 fen: no need`;
    assert.deepEqual(await refundLines(), [`${requested}; now APPROVED`]);
    for (const claim of await replica.refunds.claim(100)) await replica.refunds.payOut(claim);
    assert.deepEqual(await refundLines(), [requested, `refund ${id} paid out`]);
  });
});
