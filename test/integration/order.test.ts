import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../gen/common/v1/errors.js';
import {
  isInstanceReportConflict,
  isInstanceRequestNotFound,
  isInstanceSourceReused,
} from '../../gen/instance/v1/errors.js';
import { Event } from '../../gen/instance/v1/event.js';
import {
  isOrderAlreadyPaid,
  isOrderCancelled,
  isOrderNotFound,
  isOrderStatusConflict,
  isPaymentAmountMismatch,
  isRequestIdReused,
} from '../../gen/order/v1/errors.js';
import { isProductDisabled, isProductNotFound, isProductVersionConflict } from '../../gen/product/v1/errors.js';
import { type Product, ProductUsecase } from '../../internal/biz/catalog/product.js';
import { StockGate } from '../../internal/biz/catalog/stock-gate.js';
import { EntitlementRepo } from '../../internal/biz/entitlement/entitlement-state.js';
import { IdGenerator } from '../../internal/biz/id-generator.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { InstanceUsecase } from '../../internal/biz/instance/instance.js';
import { OrderUsecase } from '../../internal/biz/order/order.js';
import type { Order } from '../../internal/biz/order/order-state.js';
import { ORDER_POLICY, PAYMENT_PROVIDERS, REFUND_POLICY } from '../../internal/biz/policy.js';
import { productBizModule } from '../../internal/biz/product-module.js';
import { AdvisoryLocks } from '../../internal/data/postgres/advisory-locks.js';
import { PgEntitlementRepo } from '../../internal/data/postgres/entitlement.js';
import { LeasedIdGenerator } from '../../internal/data/postgres/id-generator.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { PrimaryReads, Reads } from '../../internal/data/postgres/reads.js';
import { productDataModule } from '../../internal/data/product-module.js';
import { sharedDataModule } from '../../internal/data/shared-module.js';
import { providers } from '../../internal/kratos/app/wiring.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { NoTrace, Trace } from '../../internal/kratos/tracing/trace.js';
import { MemoryStockGate } from '../support/memory/stock-gate.js';
import { useServers } from '../support/servers.js';
import { containerOf, replaced } from '../support/wiring.js';

const ALICE = formatUserId('1');
const BOB = formatUserId('2');
const PAY_TIMEOUT_MS = 60_000;

describe('orders on PostgreSQL', () => {
  const servers = useServers('postgres');
  let db: Postgres;
  let locks: AdvisoryLocks;
  let ids: LeasedIdGenerator;
  let products: ProductUsecase;
  let instances: InstanceUsecase;
  let orders: OrderUsecase;
  let plan: Product;

  before(async () => {
    db = new Postgres({
      source: servers.postgresUrl,
      poolSize: 20,
      role: 'kaimai_product',
      statementTimeoutMs: 10_000,
      connectTimeoutMs: 5_000,
      applicationName: 'order-test',
    });
    locks = new AdvisoryLocks(servers.postgresUrl, 5_000);
    ids = new LeasedIdGenerator(locks);
    await ids.open();
    const modules = replaced(
      [sharedDataModule, productDataModule, productBizModule],
      providers(({ value, create }) => {
        value(Postgres, db);
        value(Reads, new PrimaryReads(db));
        value(IdGenerator, ids);
        value(PAYMENT_PROVIDERS, []);
        value(EntitlementRepo, new PgEntitlementRepo(db, { offsetMs: 0 }));
        create(StockGate, [], () => new MemoryStockGate());
      }),
    );
    const settings = providers(({ value, create }) => {
      value(ORDER_POLICY, { payTimeoutMs: PAY_TIMEOUT_MS });
      value(REFUND_POLICY, { maxAttempts: 3, retryBackoffMs: 1, leaseMs: 1_000, afterSaleWindowMs: 60_000 });
      create(Metrics, [], () => new Metrics());
      create(Trace, [], () => new NoTrace());
    });
    const container = containerOf([...modules, settings]);
    products = container.get(ProductUsecase);
    instances = container.get(InstanceUsecase);
    orders = container.get(OrderUsecase);
    const spec = await products.createSpec({
      cpu: 2,
      memoryGb: 4,
      gpu: 0,
      image: 'debian-12',
      config: { disk: 'ssd' },
    });
    plan = await products.create({
      name: 'small',
      description: '',
      status: 'ENABLED',
      priceFen: 9_900n,
      specId: spec.id,
      imageUrl: '',
      sellerId: undefined,
    });
  });
  after(async () => {
    await locks?.close();
    await db?.close();
  });

  const open = (userId = ALICE, requestId = '') =>
    orders.create({ userId, productId: plan.id, quantity: 1, requestId, remark: '' });
  const pay = (orderId: bigint, eventId = '', amountFen?: bigint) =>
    orders.markPaid({ orderId, userId: undefined, provider: eventId === '' ? '' : 'testpay', eventId, amountFen });
  const count = async (sql: string, ...values: unknown[]) =>
    Number((await db.pool.query<{ n: bigint }>(`SELECT count(*) AS n FROM ${sql}`, values)).rows[0]?.n);
  const overdue = (orderId: bigint) =>
    db.pool.query("UPDATE orders SET pay_deadline = now() - interval '1 second' WHERE id = $1", [orderId]);

  it('creates a PENDING order with a snapshot of the product', async () => {
    const order = await open();
    assert.equal(order.status, 'PENDING');
    assert.equal(order.source, 'NORMAL');
    assert.equal(order.orderNo, `ORD${order.id}`);
    assert.equal(order.amountFen, 9_900n);
    assert.equal(order.productName, 'small');
    assert.equal(order.payDeadline!.getTime() > Date.now(), true);
    assert.deepEqual(
      (await orders.listEvents(order.id, ALICE)).map((e) => [e.from, e.to, e.actor]),
      [[undefined, 'PENDING', 'user']],
    );
  });

  it('gives the buyer the whole pay timeout when the clock of the process is 15 minutes slow', async () => {
    const { now } = Date;
    let order: Order;
    try {
      Date.now = () => now() - 15 * 60_000;
      order = await open();
    } finally {
      Date.now = now;
    }
    assert.equal(order.payDeadline?.getTime(), order.createdAt.getTime() + PAY_TIMEOUT_MS);
    await orders.sweepOverdue(100);
    assert.equal((await orders.get(order.id, ALICE)).status, 'PENDING');
  });

  it('creates one order for twenty concurrent requests with the same request id', async () => {
    const found = await Promise.all(Array.from({ length: 20 }, () => open(ALICE, 'same')));
    assert.equal(new Set(found.map((o) => o.id)).size, 1);
    assert.notEqual((await open(BOB, 'same')).id, found[0]!.id);
  });

  it('rejects a request id that was used for a different order', async () => {
    await open(ALICE, 'reused');
    const other = await products.create({ ...plan, specId: plan.spec.id, name: 'other' });
    await assert.rejects(
      orders.create({ userId: ALICE, productId: other.id, quantity: 1, requestId: 'reused', remark: '' }),
      isRequestIdReused,
    );
    const remarked = { userId: ALICE, productId: plan.id, quantity: 1, requestId: 'reused', remark: 'in blue' };
    await assert.rejects(orders.create(remarked), isRequestIdReused);
    // An order of an earlier version has no fingerprint; what it bought is compared instead.
    await db.pool.query(`UPDATE orders SET request_fingerprint = NULL WHERE user_id = $1 AND request_id = 'reused'`, [
      ALICE,
    ]);
    assert.equal((await orders.create(remarked)).remark, '');
    await assert.rejects(orders.create({ ...remarked, productId: other.id }), isRequestIdReused);
  });

  it('rejects unknown and disabled products, and quantities other than one', async () => {
    const disabled = await products.create({ ...plan, specId: plan.spec.id, status: 'DISABLED' });
    const wanted = { userId: ALICE, quantity: 1, requestId: '', remark: '' };
    await assert.rejects(orders.create({ ...wanted, productId: 999_999n }), isProductNotFound);
    await assert.rejects(orders.create({ ...wanted, productId: disabled.id }), isProductDisabled);
    for (const quantity of [0, -1, 2, 1_000_000]) {
      await assert.rejects(
        orders.create({ ...wanted, productId: plan.id, quantity }),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === 'quantity',
      );
    }
  });

  it('shows and changes an order only for its owner', async () => {
    const order = await open(ALICE);
    await assert.rejects(orders.get(order.id, BOB), isOrderNotFound);
    await assert.rejects(orders.cancel(order.id, BOB, ''), isOrderNotFound);
    await assert.rejects(orders.listEvents(order.id, BOB), isOrderNotFound);
    await assert.rejects(
      orders.markPaid({ orderId: order.id, userId: BOB, provider: '', eventId: '', amountFen: undefined }),
      isOrderNotFound,
    );
    assert.equal(
      (await orders.list(BOB, {}, { offset: 0, limit: 100 })).items.some((o) => o.id === order.id),
      false,
    );
  });

  it('requests the instance in the transaction that pays the order', async () => {
    const order = await open();
    const paid = await pay(order.id);
    assert.equal(paid.status, 'PAID');
    assert.ok(paid.instanceId);
    const request = await instances.getRequest(paid.instanceId);
    assert.deepEqual(
      [request.source, request.sourceId, request.orderId, request.status],
      ['ORDER', order.orderNo, order.id, 'REQUESTED'],
    );
    const { rows } = await db.pool.query<{ topic: string; payload: Buffer }>(
      'SELECT topic, payload FROM outbox WHERE ref_id = $1',
      [paid.instanceId],
    );
    assert.equal(rows.length, 1);
    const event = Event.decode(rows[0]!.payload);
    assert.equal(event.eventType, 'INSTANCE_CREATED');
    assert.equal(event.name, `inst-${paid.instanceId}`);
    assert.deepEqual(event.spec, { cpus: 2, memoryMb: 4096, gpu: 0, image: 'debian-12' });
    assert.equal(event.userId, ALICE);
    assert.equal(event.orderId, order.id);
  });

  it('counts a provider event once when it arrives repeatedly and concurrently', async () => {
    const order = await open();
    const results = await Promise.all(Array.from({ length: 20 }, () => pay(order.id, `evt-${order.id}`)));
    assert.equal(new Set(results.map((o) => o.instanceId)).size, 1);
    assert.equal(await count('instance_requests WHERE order_id = $1', order.id), 1);
    assert.equal(await count('payments WHERE order_id = $1', order.id), 1);
    assert.equal(await count('refunds WHERE order_id = $1', order.id), 0);
  });

  it('answers ORDER_ALREADY_PAID to a second payment and refunds it', async () => {
    const order = await open();
    await pay(order.id, `first-${order.id}`);
    await assert.rejects(
      pay(order.id, `second-${order.id}`),
      (err) => isOrderAlreadyPaid(err) && err.metadata.refund_id !== undefined,
    );
    assert.equal(await count("refunds WHERE order_id = $1 AND status = 'APPROVED'", order.id), 1);
    assert.equal(await count('instance_requests WHERE order_id = $1', order.id), 1);
  });

  it('answers ORDER_ALREADY_PAID without a refund when an order is marked as paid twice by hand', async () => {
    const order = await open();
    await pay(order.id);
    await assert.rejects(pay(order.id), isOrderAlreadyPaid);
    assert.equal(await count('refunds WHERE order_id = $1', order.id), 0);
  });

  it('refunds a payment that arrives after the cancellation of its order, once', async () => {
    const order = await open();
    await orders.cancel(order.id, ALICE, '');
    for (let i = 0; i < 2; i++) {
      await assert.rejects(
        pay(order.id, `late-${order.id}`),
        (err) => isOrderCancelled(err) && err.metadata.refund_id !== undefined,
      );
    }
    assert.equal(await count('refunds WHERE order_id = $1', order.id), 1);
    assert.equal(await count('instance_requests WHERE order_id = $1', order.id), 0);
  });

  it('refunds a payment of another amount and leaves the order PENDING', async () => {
    const order = await open();
    await assert.rejects(pay(order.id, `short-${order.id}`, 1n), isPaymentAmountMismatch);
    assert.equal((await orders.get(order.id, ALICE)).status, 'PENDING');
    assert.equal(await count('refunds WHERE order_id = $1 AND amount = 1', order.id), 1);
    assert.equal((await pay(order.id, `full-${order.id}`, 9_900n)).status, 'PAID');
  });

  it('rejects an event id that paid another order', async () => {
    const [a, b] = [await open(), await open()];
    await pay(a.id, `shared-${a.id}`);
    await assert.rejects(pay(b.id, `shared-${a.id}`), isRequestIdReused);
  });

  it('cancels an order once, and never a paid one', async () => {
    const order = await open();
    assert.equal(
      (await orders.cancel(order.id, ALICE, 'changed my mind')).closeReason,
      'USER_CANCELLED: changed my mind',
    );
    assert.equal((await orders.cancel(order.id, ALICE, '')).version, 2n);
    const paid = await open();
    await pay(paid.id);
    await assert.rejects(orders.cancel(paid.id, ALICE, ''), isOrderAlreadyPaid);
  });

  it('applies exactly one of a concurrent payment, cancellation and sweep', async () => {
    for (let i = 0; i < 30; i++) {
      const order = await open();
      await overdue(order.id);
      await Promise.allSettled([
        pay(order.id, `race-${order.id}`),
        orders.cancel(order.id, ALICE, ''),
        orders.sweepOverdue(10),
      ]);
      const { status } = await orders.get(order.id, ALICE);
      const requested = await count('instance_requests WHERE order_id = $1', order.id);
      const refunded = await count('refunds WHERE order_id = $1', order.id);
      assert.ok(
        (status === 'PAID' && requested === 1 && refunded === 0) || (status === 'CANCELLED' && requested === 0),
        `${status}: ${requested} instance requests, ${refunded} refunds`,
      );
      const events = await orders.listEvents(order.id, ALICE);
      assert.equal(events.length, 2);
    }
  });

  it('cancels overdue orders and no others', async () => {
    const late = await open();
    const inTime = await open();
    await overdue(late.id);
    while ((await orders.sweepOverdue(100)).cancelled > 0);
    assert.equal((await orders.get(late.id, ALICE)).closeReason, 'PAY_TIMEOUT');
    assert.equal((await orders.get(inTime.id, ALICE)).status, 'PENDING');
  });

  it('completes an order on SUCCESS, and changes nothing when the report is repeated', async () => {
    const { id, instanceId } = await pay((await open()).id);
    for (let i = 0; i < 3; i++) {
      await instances.reportInstance({ instanceId: instanceId!, status: 'SUCCESS', reason: '' });
    }
    const order = await orders.get(id, ALICE);
    assert.equal(order.status, 'COMPLETED');
    assert.equal(order.version, 3n);
    assert.ok(order.paidAt!.getTime() <= order.completedAt!.getTime());
    await assert.rejects(
      instances.reportInstance({ instanceId: instanceId!, status: 'FAILED', reason: 'late' }),
      isInstanceReportConflict,
    );
  });

  it('accepts many reports together, and refuses those that it would refuse alone', async () => {
    const ofBuyer = async (event: string) => pay((await open()).id, event);
    const [a, b, failed] = [await ofBuyer('many-a'), await ofBuyer('many-b'), await ofBuyer('many-failed')];
    const reportOf = (instanceId: bigint, status: 'SUCCESS' | 'FAILED' = 'SUCCESS') => ({
      instanceId,
      status,
      reason: 'r',
    });
    const reports = [a, b].map((o) => reportOf(o.instanceId!));
    const failures = await instances.reportInstances([
      reportOf(1n),
      ...reports,
      reportOf(failed.instanceId!, 'FAILED'),
    ]);
    assert.ok(isInstanceRequestNotFound(failures[0]));
    assert.deepEqual(failures.slice(1), [undefined, undefined, undefined]);
    const statuses = await Promise.all([a, b, failed].map(async ({ id }) => (await orders.get(id, ALICE)).status));
    assert.deepEqual(statuses, ['COMPLETED', 'COMPLETED', 'REFUNDING']);
    assert.deepEqual(await instances.reportInstances(reports), [undefined, undefined]);
    assert.ok(isInstanceReportConflict((await instances.reportInstances([reportOf(failed.instanceId!)]))[0]));
    assert.equal((await orders.get(a.id, ALICE)).version, 3n);
  });

  it('completes the other orders when one of many reports cannot be stored', async () => {
    const made = [];
    for (let i = 0; i < 5; i++) made.push(await pay((await open()).id, `poisoned-${i}`));
    // No order may be completed before it was paid, so the database refuses this one.
    await db.pool.query('UPDATE orders SET paid_at = NULL WHERE id = $1', [made[3]!.id]);
    const reports = made.map((o) => ({ instanceId: o.instanceId!, status: 'SUCCESS', reason: '' }) as const);
    const failures = await instances.reportInstances(reports);
    assert.deepEqual(
      failures.map((f) => f === undefined),
      [true, true, true, false, true],
    );
    assert.match(String(failures[3]), /orders_paid_before_completed/);
    assert.equal(
      await count(
        'orders WHERE status = 3 AND id = ANY ($1::bigint[])',
        made.map((o) => o.id),
      ),
      4,
    );
    assert.equal(await count("instance_requests WHERE status = 'REQUESTED' AND order_id = $1", made[3]!.id), 1);
  });

  it('refunds an order once when twenty concurrent reports say that its instance failed', async () => {
    const { id, instanceId } = await pay((await open()).id, 'pays-what-fails');
    await Promise.all(
      Array.from({ length: 20 }, () =>
        instances.reportInstance({ instanceId: instanceId!, status: 'FAILED', reason: 'no capacity' }),
      ),
    );
    const order = await orders.get(id, ALICE);
    assert.equal(order.status, 'REFUNDING');
    assert.match(order.closeReason, /^INSTANCE_FAILED: no capacity/);
    assert.equal(await count('refunds WHERE order_id = $1', id), 1);
  });

  it('rejects a report of an instance that was never requested', () =>
    assert.rejects(
      instances.reportInstance({ instanceId: 1n, status: 'SUCCESS', reason: '' }),
      isInstanceRequestNotFound,
    ));

  it('gives one instance to one source, however often it is requested', async () => {
    const grant = { productId: plan.id, userId: ALICE, source: 'ACTIVITY', sourceId: 'spring-1' };
    const granted = await Promise.all(Array.from({ length: 20 }, () => instances.createInstance(grant)));
    assert.equal(new Set(granted.map((g) => g.instanceId)).size, 1);
    assert.equal(await count('outbox WHERE ref_id = $1', granted[0]!.instanceId), 1);
    await assert.rejects(instances.createInstance({ ...grant, userId: BOB }), isInstanceSourceReused);
  });

  it('sets the instance of the PAID order that the request names, and of no other', async () => {
    const pending = await open();
    const request = {
      productId: plan.id,
      userId: ALICE,
      source: 'ORDER',
      sourceId: String(pending.id),
      orderId: pending.id,
    };
    await assert.rejects(instances.createInstance(request), isOrderStatusConflict);
    await assert.rejects(instances.createInstance({ ...request, userId: BOB }), isOrderNotFound);
    assert.equal(await count('instance_requests WHERE order_id = $1', pending.id), 0);
    const paid = await pay(pending.id);
    for (const sourceId of [String(pending.id), pending.orderNo]) {
      assert.equal((await instances.createInstance({ ...request, sourceId })).instanceId, paid.instanceId);
    }
    // As an earlier version stored it.
    await db.pool.query('UPDATE instance_requests SET source_id = $1 WHERE order_id = $2', [pending.id, pending.id]);
    assert.equal((await instances.createInstance(request)).instanceId, paid.instanceId);
    assert.equal(await count('instance_requests WHERE order_id = $1', pending.id), 1);
  });

  it('reports the field of a source that is too long', async () => {
    const request = { productId: plan.id, userId: ALICE, source: 'A'.repeat(21), sourceId: 'x'.repeat(65) };
    await assert.rejects(
      instances.createInstance(request),
      (err) => isInvalidArgument(err) && err.violations.map((v) => v.field).join() === 'source,source_id',
    );
  });

  it('changes a product only if its version has not changed', async () => {
    const product = await products.create({ ...plan, specId: plan.spec.id });
    const changed = await products.update(product.id, product.version, { priceFen: 5n, status: 'DISABLED' });
    assert.deepEqual([changed.priceFen, changed.status, changed.version], [5n, 'DISABLED', 2n]);
    await assert.rejects(products.update(product.id, 1n, { priceFen: 6n }), isProductVersionConflict);
    await assert.rejects(products.update(999_999n, 1n, { priceFen: 6n }), isProductNotFound);
  });

  it('lists the orders of a user in pages, newest first', async () => {
    const user = formatUserId('77');
    const made = [];
    for (let i = 0; i < 5; i++) made.push((await open(user)).id);
    const page = await orders.list(user, { status: 'PENDING' }, { offset: 1, limit: 2 });
    assert.deepEqual(
      page.items.map((o) => o.id),
      [made[3], made[2]],
    );
    assert.equal(page.total, 5n);
    assert.equal((await orders.list(user, { orderType: 'GOODS' }, { offset: 0, limit: 0 })).total, 0n);
  });
});
