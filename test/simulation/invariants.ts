import { type Order, REFUNDED, soldQuantity } from '../../internal/biz/order/order-state.js';
import { reusedStreamId } from '../../internal/biz/seckill/purchase-stream.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { segmentsOf } from '../../internal/biz/seckill/segment.js';
import { couponViolations } from './coupons.js';
import type { ResourceDomain } from './resource-domain.js';
import { stockViolations } from './stock-invariants.js';
import type { World } from './world.js';

/** The highest limit that an operator gives a user. */
const MOST_LIMIT = 4;

/** The violated invariants of a world in which all work is finished, as `<invariant>: <what is wrong>`. */
export function violationsOf(world: World, resource: ResourceDomain): string[] {
  const found: string[] = [];
  const expect = (holds: boolean, invariant: string, what: () => string) => {
    if (!holds) found.push(`${invariant}: ${what()}`);
  };
  const { history } = world;
  const orders = world.orderRepo.orders.rows();
  const events = world.orderRepo.events.rows();
  const inbox = world.orderRepo.inbox.rows();
  const payments = world.paymentRepo.payments.rows();
  const refunds = world.refundRepo.refunds.rows();
  const requests = world.instanceRepo.requests.rows();
  const outbox = world.outbox.table.rows();
  const logs = [...resource.logs.values()];
  const byId = new Map(orders.map((o) => [o.id, o]));

  for (const sale of world.saleUnits.sales.rows()) {
    const live = orders.filter((o) => o.saleId === sale.id && soldQuantity(o) > 0);
    const units = live.reduce((sum, o) => sum + BigInt(soldQuantity(o)), 0n);
    expect(
      sale.sold === units && units <= sale.total - sale.returned,
      'units sold',
      () => `sale ${sale.id}: ${sale.sold}/${sale.total}, ${units} live`,
    );
    admissionViolations(world, sale, live, expect);
  }

  for (const itemId of world.redis.itemIds) {
    const left = world.waiting(itemId).length;
    expect(left === 0, 'empty stream', () => `${left} entries of item ${itemId} are still in the stream`);
  }
  for (const { itemId, streamId } of world.entries) {
    const rows = inbox.filter((row) => row.streamId === streamId && row.itemId === itemId);
    if (rows.length === 0 && world.losses.redis) continue;
    const [row] = rows;
    expect(rows.length === 1, 'one outcome per entry', () => `entry ${streamId} has ${rows.length} outcomes`);
    const order = row?.orderId === undefined ? undefined : byId.get(row.orderId);
    expect(
      row?.kind !== 'ORDER' || order !== undefined,
      'one outcome per entry',
      () => `entry ${streamId} has no order`,
    );
    const letters = world.settlementRepo.deadLetters
      .rows()
      .filter((d) => d.streamId === streamId && d.itemId === itemId);
    expect(
      (row?.kind === 'DEAD') === (letters.length === 1),
      'one outcome per entry',
      () => `entry ${streamId}: ${letters.length} dead letters`,
    );
  }
  purchaseViolations(world, expect);
  for (const order of orders.filter((o) => o.source === 'SECKILL')) {
    const rows = inbox.filter((row) => row.orderId === order.id);
    expect(rows.length === 1, 'one outcome per entry', () => `order ${order.id} has ${rows.length} inbox rows`);
  }

  const unique = (what: string, keys: readonly (string | undefined)[]) => {
    const given = keys.filter((k) => k !== undefined);
    const twice = given.filter((k, i) => given.indexOf(k) !== i);
    expect(twice.length === 0, 'uniqueness', () => `${what}: duplicates ${twice.join(', ')}`);
  };
  unique(
    'item and req_id',
    orders.map((o) => `${o.productId ?? o.skuId} ${o.reqId}`),
  );
  unique(
    'user and request id',
    orders.map((o) => (o.requestId === undefined ? undefined : `${o.userId} ${o.requestId}`)),
  );
  unique(
    'source',
    requests.map((r) => `${r.source} ${r.productId} ${r.sourceId}`),
  );
  unique(
    'instance of an order',
    orders.map((o) => o.instanceId?.toString()),
  );
  unique(
    'payment event',
    payments.map((p) => `${p.provider} ${p.eventId}`),
  );

  const created = outbox.filter((row) => row.topic === 'instance.created');
  const refunded = (o: Order) => o.status === 'CANCELLED' && o.closeReason === REFUNDED;
  const paid = (o: Order) => o.status === 'PAID' || o.status === 'COMPLETED' || refunded(o);
  for (const order of orders) {
    const asked = requests.filter((r) => r.orderId === order.id);
    const told = created.filter((row) => row.event?.orderId === order.id);
    const one = asked.length === 1 && told.length === 1 && asked[0]?.instanceId === order.instanceId;
    const none = asked.length === 0 && told.length === 0 && order.instanceId === undefined;
    expect(
      paid(order) && order.orderType === 'INSTANCE' ? one : none,
      'instance requests and events',
      () => `order ${order.id} ${order.status}: ${asked.length} requests, ${told.length} events`,
    );
    // All work is finished, so no order may still wait for its instance.
    expect(
      order.status !== 'PAID' || order.orderType === 'GOODS',
      'final order status',
      () => `order ${order.id} is still PAID`,
    );
  }
  for (const request of requests) {
    const told = created.filter((row) => row.refId === request.instanceId);
    expect(
      told.length === 1,
      'instance requests and events',
      () => `request ${request.instanceId} has ${told.length} events`,
    );
  }
  expect(
    created.length === requests.length,
    'instance requests and events',
    () => `${created.length} events of ${requests.length} requests`,
  );

  for (const row of outbox)
    expect(row.publishedAt !== undefined, 'published events', () => `outbox row ${row.id} is not published`);
  const publishedIds = new Set(world.published.map((e) => e.instanceId));
  expect(world.queue.length === 0, 'published events', () => `${world.queue.length} messages are still in the queue`);
  expect(
    publishedIds.size === created.length,
    'published events',
    () => `${publishedIds.size} of ${created.length} events were published`,
  );
  expect(logs.length === created.length, 'published events', () => `${logs.length} logs of ${created.length} events`);

  for (const { event, status } of logs) {
    const running = resource.running.get(event.name);
    const same = running?.instanceId === event.instanceId && running.userId === event.userId;
    expect((status === 'SUCCESS') === (running !== undefined && same), 'instances', () => `${event.name} is ${status}`);
    const request = requests.find((r) => r.instanceId === event.instanceId);
    expect(
      request?.status === status,
      'instances',
      () => `request ${event.instanceId}: ${request?.status}, but ${status}`,
    );
  }
  expect(resource.running.size <= logs.length, 'instances', () => 'an instance has no log');

  for (const order of orders) {
    const log = logs.find((l) => l.event.instanceId === order.instanceId);
    if (order.orderType === 'GOODS') {
      expect(
        order.status === 'PAID' || order.status === 'COMPLETED' || order.status === 'CANCELLED',
        'final order status',
        () => `goods order ${order.id} is ${order.status}`,
      );
    }
    const expected = order.orderType === 'GOODS' ? order.status : log?.status === 'SUCCESS' ? 'COMPLETED' : 'CANCELLED';
    expect(
      order.status === expected,
      'final order status',
      () => `order ${order.id} is ${order.status}, its instance ${log?.status}`,
    );
    expect(
      order.completedAt === undefined || (order.paidAt !== undefined && order.paidAt <= order.completedAt),
      'final order status',
      () => `order ${order.id} was completed before it was paid`,
    );
    expect(order.status !== 'PENDING', 'overdue orders', () => `order ${order.id} is PENDING past its deadline`);

    const way = events.filter((e) => e.orderId === order.id).sort((a, b) => Number(a.version - b.version));
    expect(
      way.length > 0 && way.every((e, i) => e.from === way[i - 1]?.to) && way.at(-1)?.to === order.status,
      'order events',
      () => `order ${order.id} is ${order.status} by ${way.map((e) => `${e.from}>${e.to}`).join(' ')}`,
    );

    const applied = payments.filter((p) => p.orderId === order.id && p.outcome === 'APPLIED');
    const prepaid = order.source === 'SECKILL' && way[0]?.to === 'PAID';
    expect(
      applied.length === (paid(order) && !prepaid ? 1 : 0),
      'money',
      () => `order ${order.id} ${order.status}: ${applied.length} payments`,
    );
    const back = refunds.filter((r) => r.orderId === order.id && r.kind !== 'PAYMENT' && r.status !== 'REFUSED');
    expect(
      back.filter((r) => r.kind === 'WHOLE').length === (refunded(order) ? 1 : 0),
      'money',
      () => `order ${order.id} ${order.status}: ${back.length} refunds`,
    );
    const refundedFen = back.reduce((sum, r) => sum + r.amountFen, 0n);
    expect(
      refundedFen === order.refundedFen && refundedFen <= order.amountFen,
      'money',
      () => `order ${order.id} of ${order.amountFen} fen: ${refundedFen} refunded, recorded ${order.refundedFen}`,
    );
  }
  for (const payment of payments.filter((p) => p.outcome === 'REFUNDED')) {
    const back = refunds.filter((r) => r.paymentId === payment.id);
    expect(
      back.length === 1 && back[0]?.amountFen === payment.amountFen,
      'money',
      () => `payment ${payment.id}: ${back.length} refunds`,
    );
  }
  for (const refund of refunds) {
    const payment = payments.find((p) => p.id === refund.paymentId);
    const payout = world.provider.paid.get(refund.id);
    const isDue = payment?.provider === world.provider.name && refund.status !== 'REFUSED';
    const due = isDue ? refund.amountFen : undefined;
    expect(
      (refund.status === 'DONE' || refund.status === 'REFUSED') &&
        payout?.amountFen === due &&
        payout?.eventId === (due && payment?.eventId),
      'money',
      () => `refund ${refund.id} is ${refund.status}, ${payout?.amountFen} fen were paid back of ${due}`,
    );
  }
  for (const id of world.provider.paid.keys()) {
    expect(
      refunds.some((r) => r.id === id),
      'money',
      () => `${id} was paid back without a refund`,
    );
  }
  for (const id of history.refunds) {
    expect(
      refunds.some((r) => r.id === id),
      'answers to callers',
      () => `refund ${id} was promised and is gone`,
    );
  }
  for (const what of history.falselySoldOut) expect(false, 'answers to callers', () => what);
  const captured = payments.reduce((sum, p) => sum + p.amountFen, 0n);
  const ofPayments = refunds
    .filter((r) => r.paymentId !== undefined && r.status !== 'REFUSED')
    .reduce((sum, r) => sum + r.amountFen, 0n);
  const kept = orders
    .filter(
      (o) =>
        (o.status === 'PAID' || o.status === 'COMPLETED') &&
        payments.some((p) => p.orderId === o.id && p.outcome === 'APPLIED'),
    )
    .reduce((sum, o) => sum + o.amountFen - o.refundedFen, 0n);
  expect(captured - ofPayments === kept, 'money', () => `captured ${captured}, refunded ${ofPayments}, due ${kept}`);

  stockViolations(world, orders, expect);
  couponViolations(world, orders, expect);

  for (const [key, ids] of history.created) {
    expect(
      ids.size === 1,
      'answers to callers',
      () => `request ${key} was answered with orders ${[...ids].join(', ')}`,
    );
    for (const id of ids)
      expect(byId.has(id), 'answers to callers', () => `order ${id} was acknowledged and does not exist`);
  }
  for (const [key, ids] of history.granted) {
    expect(ids.size === 1, 'answers to callers', () => `${key} was answered with instances ${[...ids].join(', ')}`);
    for (const id of ids)
      expect(
        requests.some((r) => r.instanceId === id),
        'answers to callers',
        () => `instance ${id} was not requested`,
      );
  }
  for (const id of history.cancelled) {
    expect(byId.get(id)?.status === 'CANCELLED', 'answers to callers', () => `order ${id} was reported as cancelled`);
  }
  for (const { orderId, provider, eventId, answers } of history.payments) {
    const stored = payments.find((p) => p.provider === provider && p.eventId === eventId);
    expect(stored !== undefined, 'answers to callers', () => `payment ${eventId} is not stored`);
    const outcome =
      stored?.orderId !== orderId ? 'REQUEST_ID_REUSED' : stored.outcome === 'APPLIED' ? 'PAID' : 'another';
    for (const answer of answers) {
      const fits = outcome === 'another' ? answer !== 'PAID' && answer !== 'REQUEST_ID_REUSED' : answer === outcome;
      expect(
        fits,
        'answers to callers',
        () => `payment ${eventId} of order ${orderId} is ${stored?.outcome}, the answer was ${answer}`,
      );
    }
  }
  return found;
}

/** Units in Redis and units of live orders make the total, in all and for each user. */
function admissionViolations(
  { redis, vipLimits, losses }: World,
  sale: Sale,
  live: readonly Order[],
  expect: (holds: boolean, invariant: string, what: () => string) => void,
): void {
  const held = new Map<string, number>();
  for (const o of live) held.set(o.userId, (held.get(o.userId) ?? 0) + soldQuantity(o));
  for (const [userId, units] of held) {
    const limits = vipLimits.table.rows().filter((v) => v.saleId === sale.id && v.userId === userId);
    // A limit that was lowered takes nothing away.
    const limit = Math.max(sale.defaultLimit, MOST_LIMIT * limits.length);
    expect(units <= limit, 'limit per user', () => `sale ${sale.id}: user ${userId} has ${units} of ${limit}`);
  }
  const servers = segmentsOf(sale.segments).map((k) => redis.at(k));
  const states = servers.map((server) => server.inspect(sale.itemId));
  if (sale.status !== 'OPEN') {
    for (const [k, { loaded, closedEpoch }] of states.entries()) {
      const segment = `segment ${k} of sale ${sale.id}`;
      expect(loaded === undefined, 'admission', () => `${segment} is ${sale.status} and still admitted to`);
      expect(
        closedEpoch === sale.epoch || losses.redis,
        'admission',
        () => `Redis has epoch ${closedEpoch} of ${segment} as closed`,
      );
    }
    return;
  }
  for (const { loaded } of states) {
    expect(loaded?.epoch === sale.epoch, 'admission', () => `sale ${sale.id} is not loaded under epoch ${sale.epoch}`);
  }
  // Moves that did not arrive are units of the sale, too.
  const moves = redis.movesUnderWay(sale.itemId, sale.epoch);
  const inRedis = [...states.map(({ loaded }) => loaded?.stock ?? 0n), ...moves.map(({ units }) => units)];
  const left = inRedis.reduce((a, b) => a + b, 0n);
  expect(
    left + sale.sold === sale.total,
    'admission',
    () => `sale ${sale.id}: ${left} of ${sale.total} in Redis, ${sale.sold} live`,
  );
  const known = new Map<string, number>();
  for (const [userId, units] of servers.flatMap((server) => [...server.unitsOf(sale.itemId)])) {
    known.set(userId, (known.get(userId) ?? 0) + units);
  }
  for (const userId of new Set([...held.keys(), ...known.keys()])) {
    const [units, live] = [known.get(userId) ?? 0, held.get(userId) ?? 0];
    expect(
      units === live,
      'admission',
      () => `sale ${sale.id}: user ${userId} has ${units} units in Redis, ${live} live`,
    );
  }
}

/** What buyers of sales were told came true. */
function purchaseViolations(
  { history, orderRepo, losses, entries }: World,
  expect: (holds: boolean, invariant: string, what: () => string) => void,
): void {
  const inbox = orderRepo.inbox.rows();
  const byRequest = new Map<string, Set<string>>();
  for (const { itemId, seckillId, userId, requestId } of history.queued) {
    const streamId = seckillId.slice(String(itemId).length + 1);
    const outcome =
      inbox.find((row) => row.itemId === itemId && row.streamId === streamId && row.userId === userId) ??
      inbox.find((row) => row.itemId === itemId && row.streamId === reusedStreamId(streamId, userId));
    expect(outcome !== undefined || losses.redis, 'answers to callers', () => `purchase ${seckillId} has no outcome`);
    // Units that a foreign client took, or that Redis forgot, may be missing.
    const disturbed =
      losses.redis || entries.some((e) => e.itemId === itemId) || history.limited.has(`${itemId} ${userId}`);
    expect(
      disturbed || outcome?.kind === 'ORDER',
      'answers to callers',
      () => `purchase ${seckillId} was told QUEUED and is ${outcome?.kind} ${outcome?.reason}`,
    );
    if (requestId === '') continue;
    const key = `${userId} ${requestId}`;
    byRequest.set(key, (byRequest.get(key) ?? new Set()).add(seckillId));
  }
  for (const [key, ids] of byRequest) {
    expect(
      ids.size === 1 || losses.redis,
      'answers to callers',
      () => `request ${key} was answered with purchases ${[...ids].join(', ')}`,
    );
  }
}
