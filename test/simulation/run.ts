import { isUnavailable } from '../../gen/common/v1/errors.js';
import type { Product } from '../../internal/biz/catalog/product.js';
import { TOPIC_REFUND_REQUESTED } from '../../internal/biz/order/refund.js';
import { KratosError } from '../../internal/kratos/errors/error.js';
import { Coupons } from './coupons.js';
import { FlashSales, Replica } from './flash-sales.js';
import { Goods } from './goods.js';
import { violationsOf } from './invariants.js';
import { ResourceDomain } from './resource-domain.js';
import { type Bugs, type KnownPayment, PAY_TIMEOUT_MS, World } from './world.js';

const BUYERS = 5;
const SETTLE_ROUNDS = 40;
const BATCH = 4;

/** One run: buyers, payment providers, operators and background servers act at once, then all work is finished without
 * faults, then the invariants are checked.
 */
export async function simulate(
  seed: number,
  bugs: Bugs = {},
): Promise<{ violations: string[]; trace: readonly string[] }> {
  const world = new World(seed, bugs);
  const violations = await world.clocked(async () => {
    try {
      return await new Run(world).play();
    } catch (err) {
      return [`${(err as Error).name}: ${(err as Error).stack ?? err}`];
    }
  });
  return { violations, trace: world.faults.trace };
}

class Run {
  private readonly resource: ResourceDomain;
  private lastEvent = 0;
  private buyersLeft = 0;

  constructor(private readonly world: World) {
    this.resource = new ResourceDomain(world.random, world.random.pick([0, 0.3]));
  }

  async play(): Promise<string[]> {
    const { world } = this;
    const { plan, sales, coupons } = await world.open();
    const replicas = [new Replica(world.newReplica()), new Replica(world.newReplica())];
    const flash = new FlashSales(world, sales, replicas);
    const goods = new Goods(world);
    const withCoupons = new Coupons(world, coupons, {
      pay: (order) => this.notify(this.payment(order.id, order.amountFen)),
      cancel: (order) => this.cancel(order.id, order.userId),
    });
    const buyers = [
      ...Array.from({ length: BUYERS }, (_, i) => () => this.buyer(i, plan)),
      () => flash.buyers(),
      () => this.payOrCancel(),
      () => withCoupons.buyer(),
      () => withCoupons.buyer(),
      () => flash.operate(),
      () => flash.loseData(),
      () => this.grants(plan),
      () => this.clock(),
    ];
    this.buyersLeft = buyers.length;
    const counted = buyers.map((buyer) => () => buyer().finally(() => this.buyersLeft--));
    const busy = (work: () => Promise<unknown>) => async () => {
      while (this.buyersLeft > 0) {
        await world.scheduler.turn();
        if (world.random.chance(0.3)) await work();
      }
    };
    await world.scheduler.run([
      ...counted,
      ...replicas.map((replica) => busy(() => flash.consume(replica))),
      ...replicas.map((replica) => busy(() => flash.keep(replica))),
      ...replicas.map((replica) => busy(() => flash.returnUnits(replica))),
      ...[1, 2].map(() => busy(() => this.relay())),
      ...[1, 2].map(() => busy(() => this.sweep())),
      ...[1, 2].map(() => busy(() => this.consume())),
      ...[1, 2].map(() => busy(() => this.workAndReport())),
      ...[1, 2].map(() => busy(() => this.payRefunds())),
      ...[1, 2].map(() => busy(() => goods.act())),
      busy(() => this.repeatPayment()),
    ]);
    let unmended: readonly string[] = [];
    await world.calmly(async () => {
      await this.comeToRest(flash, goods, replicas);
      unmended = await flash.unmended();
    });
    const violations = violationsOf(world, this.resource);
    return [...violations, ...[...world.drifts, ...unmended].map((what) => `admission: ${what}`)];
  }

  /** Creates an order, perhaps by several clicks, and then does several things with it at once. */
  private async buyer(i: number, plan: Product): Promise<void> {
    const { random, faults, orders, history } = this.world;
    const userId = this.world.randomUser();
    const requestId = random.chance(0.8) ? `request-${random.chance(0.2) ? 'shared' : i}` : '';
    const wanted = { userId, productId: plan.id, quantity: 1, requestId, remark: '' };
    const found = await this.together(1 + random.int(3), async () => {
      const order = await faults.insist('create', () => orders.create(wanted));
      if (order instanceof KratosError) throw order;
      const key = requestId === '' ? `${userId} alone ${order.id}` : `${userId} ${requestId}`;
      history.created.set(key, (history.created.get(key) ?? new Set()).add(order.id));
      return order;
    });
    const order = random.pick(found);
    const did: (() => Promise<void>)[] = [];
    const pay = (payment: KnownPayment) =>
      did.push(async () => void (await this.together(1 + random.int(3), () => this.notify(payment))));
    if (random.chance(0.7)) pay(this.payment(order.id, order.amountFen));
    if (random.chance(0.2)) pay(this.payment(order.id, order.amountFen));
    if (random.chance(0.15)) pay(this.payment(order.id, 1n));
    if (random.chance(0.25)) pay(this.payment(order.id, order.amountFen, 'shared'));
    if (random.chance(0.15))
      pay({ orderId: order.id, provider: '', eventId: '', amountFen: order.amountFen, answers: [] });
    if (random.chance(0.3)) did.push(() => this.cancel(order.id, userId));
    if (random.chance(0.2)) did.push(() => this.grant(plan, userId, 'ORDER', String(order.id), order.id));
    await Promise.all(did.map((act) => act()));
  }

  /** Pays or cancels orders of the sales. */
  private async payOrCancel(): Promise<void> {
    const { random, scheduler } = this.world;
    for (let turns = 40 + random.int(100); turns > 0; turns--) await scheduler.turn();
    const waiting = this.world.orderRepo.orders.rows().filter((o) => o.saleId !== undefined && o.status === 'PENDING');
    await Promise.all(
      waiting.map(async (order) => {
        const does = random.int(3);
        if (does === 0) await this.notify(this.payment(order.id, order.amountFen));
        if (does === 1) await this.cancel(order.id, order.userId);
      }),
    );
  }

  private async grants(plan: Product): Promise<void> {
    for (let n = 0; n < 2; n++) {
      const userId = this.world.user(n);
      await this.together(3, () => this.grant(plan, userId, 'ACTIVITY', `spring-${n}`, undefined));
    }
  }

  /** Lets payment deadlines pass while the others work. */
  private async clock(): Promise<void> {
    const { random, scheduler } = this.world;
    for (let n = random.int(3); n > 0; n--) {
      for (let turns = random.int(60); turns > 0; turns--) await scheduler.turn();
      this.world.pass(PAY_TIMEOUT_MS + 1_000);
    }
  }

  private payment(orderId: bigint, amountFen: bigint, eventId = `event-${++this.lastEvent}`): KnownPayment {
    const payment = { orderId, provider: 'testpay', eventId, amountFen, answers: [] };
    this.world.history.payments.push(payment);
    return payment;
  }

  private async notify(payment: KnownPayment): Promise<void> {
    const { faults, orders } = this.world;
    const { answers, ...notice } = payment;
    const answer = await faults.insist('pay', () => orders.markPaid({ ...notice, userId: undefined }));
    const unknown = answer instanceof KratosError && !PAYMENT_ANSWERS.has(answer.reason);
    if (unknown) throw answer;
    answers.push(answer instanceof KratosError ? answer.reason : 'PAID');
  }

  /** A provider that missed the answer repeats its notice. */
  private async repeatPayment(): Promise<void> {
    const { random, history } = this.world;
    if (history.payments.length > 0 && random.chance(0.05)) await this.notify(random.pick(history.payments));
  }

  private async cancel(orderId: bigint, userId: string): Promise<void> {
    const { faults, orders, history } = this.world;
    const answer = await faults.insist('cancel', () => orders.cancel(orderId, userId, ''));
    if (!(answer instanceof KratosError)) history.cancelled.add(orderId);
    else if (answer.reason !== 'ORDER_ALREADY_PAID') throw answer;
  }

  private async grant(plan: Product, userId: string, source: string, sourceId: string, orderId: bigint | undefined) {
    const { faults, instances, history } = this.world;
    const request = { productId: plan.id, userId, source, sourceId, orderId };
    const answer = await faults.insist('grant', () => instances.createInstance(request));
    if (!(answer instanceof KratosError)) {
      const key = `${source} ${sourceId}`;
      history.granted.set(key, (history.granted.get(key) ?? new Set()).add(answer.instanceId));
    } else if (answer.reason !== 'ORDER_STATUS_CONFLICT') throw answer;
  }

  private async relay(): Promise<void> {
    const { random, faults, outbox, queue, published, bugs } = this.world;
    const limit = 1 + random.int(BATCH);
    await faults.attempt('relay', async () => {
      const rows = await outbox.waiting('instance.created', limit);
      if (bugs.relayMarksFirst) await outbox.markPublished(rows);
      const confirmed = [];
      for (const row of rows) {
        await this.world.scheduler.turn();
        if (faults.occurs()) continue;
        if (!row.event) throw new Error(`outbox row ${row.id} has no event`);
        queue.push(row.event);
        published.push(row.event);
        if (!faults.occurs()) confirmed.push(row);
      }
      await outbox.markPublished(confirmed);
    });
    await faults.attempt('relay', async () => {
      await outbox.markPublished(await outbox.waiting(TOPIC_REFUND_REQUESTED, limit));
    });
  }

  /** Takes any message, because the queue guarantees no order. */
  private async consume(): Promise<void> {
    const { random, faults, queue, bugs } = this.world;
    const event = queue.length > 0 ? random.pick(queue) : undefined;
    if (!event) return;
    const acknowledge = () => {
      const i = queue.indexOf(event);
      if (i >= 0) queue.splice(i, 1);
    };
    if (bugs.consumerAcksFirst) acknowledge();
    await this.world.scheduler.turn();
    if (faults.occurs() || faults.occurs()) return;
    this.resource.record(event);
    if (!faults.occurs()) acknowledge();
  }

  private async workAndReport(): Promise<void> {
    const { random, faults, instances } = this.world;
    const open = [...this.resource.logs.values()].filter((log) => !log.reported);
    if (open.length === 0) return;
    const logs = random.chance(0.5) ? [random.pick(open)] : open.slice(0, 1 + random.int(BATCH));
    for (const log of logs) if (log.status === 'PROCESSING') this.resource.work(log);
    const [log] = logs;
    if (logs.length === 1 && log) {
      if (await faults.attempt('report', () => instances.reportInstance(this.resource.reportOf(log))))
        log.reported = true;
      return;
    }
    const reports = logs.map((l) => this.resource.reportOf(l));
    const failures = await faults.attempt('reports', () => instances.reportInstances(reports));
    failures?.forEach((failure, i) => {
      if (failure !== undefined) throw failure;
      logs[i]!.reported = true;
    });
  }

  /** Pays what is due; a provider may fail, or pay and lose its reply. */
  private async payRefunds(): Promise<void> {
    const { random, faults, refunds, provider } = this.world;
    await faults.attempt('pay refunds', async () => {
      for (const claim of await refunds.claim(1 + random.int(BATCH))) {
        await this.world.scheduler.turn();
        if (faults.occurs()) provider.faults.push(random.pick(['refused', 'unreachable', 'lost'] as const));
        const outcome = await refunds.payOut(claim);
        if (outcome === 'waiting') await refunds.complete(claim.refund.id);
      }
    });
  }

  private async sweep(): Promise<number> {
    const { random, faults, orders } = this.world;
    const result = await faults.attempt('sweep', () => orders.sweepOverdue(1 + random.int(BATCH)));
    // The sweeper sets an order aside whatever its error is. Here only an injected fault may be one.
    for (const { err } of result?.failures ?? []) if (!isUnavailable(err)) throw err;
    return result?.cancelled ?? 0;
  }

  /** Without faults: providers repeat every notice, deadlines pass, and the background servers finish all work. */
  private async comeToRest(flash: FlashSales, goods: Goods, replicas: readonly Replica[]): Promise<void> {
    const { world } = this;
    for (const payment of world.history.payments) await this.notify(payment);
    const unpublished = () => world.outbox.table.rows().some((row) => row.publishedAt === undefined);
    const unpaid = () => world.refundRepo.refunds.rows().some((r) => r.status === 'APPROVED');
    const unreported = () => [...this.resource.logs.values()].some((log) => !log.reported);
    world.pass(2 * PAY_TIMEOUT_MS);
    for (let round = 0; round < SETTLE_ROUNDS; round++) {
      await flash.settleAll();
      await goods.finish();
      world.pass(2 * PAY_TIMEOUT_MS);
      while ((await this.sweep()) > 0);
      await this.relay();
      for (const replica of replicas) await flash.returnUnits(replica);
      while (world.queue.length > 0) await this.consume();
      for (let n = this.resource.logs.size; n > 0 && unreported(); n--) await this.workAndReport();
      world.provider.faults.length = 0;
      // Beyond the longest wait between two payouts.
      world.pass(2 * 3_600_000);
      while (unpaid()) await this.payRefunds();
      if (!unpublished() && !unreported()) return;
    }
  }

  private together<T>(n: number, work: () => Promise<T>): Promise<T[]> {
    return Promise.all(Array.from({ length: n }, work));
  }
}

const PAYMENT_ANSWERS: ReadonlySet<string> = new Set([
  'ORDER_ALREADY_PAID',
  'ORDER_CANCELLED',
  'PAYMENT_AMOUNT_MISMATCH',
  'REQUEST_ID_REUSED',
]);
