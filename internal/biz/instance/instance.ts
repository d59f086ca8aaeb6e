import { invalidArgument, isUnavailable } from '../../../gen/common/v1/errors.js';
import {
  instanceReportConflict,
  instanceRequestNotFound,
  instanceSourceReused,
} from '../../../gen/instance/v1/errors.js';
import { orderNotFound, orderStatusConflict } from '../../../gen/order/v1/errors.js';
import { productNotFound } from '../../../gen/product/v1/errors.js';
import type { ProductRepo, ProductSpec } from '../catalog/product.js';
import type { IdGenerator } from '../id-generator.js';
import type { OrderFulfilment } from '../order/fulfilment.js';
import { completeOrders, moveOrder, type Order, type OrderRepo } from '../order/order-state.js';
import type { RefundUsecase } from '../order/refund.js';
import type { Transaction, TransactionRunner } from '../transaction.js';

/** A request for an instance. (source, product, source id) is its identity: repeating it gives the same instance. */
export interface CreateInstance {
  readonly productId: bigint;
  /** UUID. */
  readonly userId: string;
  /** SECKILL, ORDER, or any later source. */
  readonly source: string;
  /** SECKILL: the stream id; ORDER: the order id. */
  readonly sourceId: string;
  readonly orderId?: bigint | undefined;
  /** W3C traceparent. undefined: that of the current operation. */
  readonly trace?: string | undefined;
}

export type InstanceStatus = 'REQUESTED' | 'SUCCESS' | 'FAILED';

export interface InstanceRequest extends CreateInstance {
  readonly instanceId: bigint;
  readonly status: InstanceStatus;
  readonly reason: string;
  readonly createdAt: Date;
  readonly reportedAt: Date | undefined;
}

/** The message to the resource domain; `instance.v1.Event` on the wire. */
export interface InstanceEvent extends CreateInstance {
  readonly instanceId: bigint;
  readonly name: string;
  readonly spec: ProductSpec;
  readonly at: Date;
}

/** The result of a request. */
export interface InstanceReport {
  readonly instanceId: bigint;
  readonly status: 'SUCCESS' | 'FAILED';
  readonly reason: string;
}

export abstract class InstanceRepo {
  /**
   * Stores the new requests, each with its outbox row, in one statement.
   * @returns for each given request, in order, the stored one with its identity: the new or the earlier one
   */
  abstract insertRequests(tx: Transaction, events: readonly InstanceEvent[]): Promise<readonly InstanceRequest[]>;
  /**
   * Stores requests whose sources are new, each with its outbox row, in one statement.
   * @returns false if one of the sources has a request already; then `tx` can only be rolled back
   */
  abstract insertNew(tx: Transaction, events: readonly InstanceEvent[]): Promise<boolean>;
  abstract find(instanceId: bigint): Promise<InstanceRequest | undefined>;
  /** The request, locked until `tx` ends. */
  abstract lock(tx: Transaction, instanceId: bigint): Promise<InstanceRequest | undefined>;
  abstract setReport(tx: Transaction, report: InstanceReport): Promise<InstanceRequest>;
  /** Records SUCCESS for those of the requests that have no report, and returns them. */
  abstract setCreated(
    tx: Transaction,
    instanceIds: readonly bigint[],
  ): Promise<readonly Pick<InstanceRequest, 'instanceId' | 'orderId'>[]>;
  /**
   * Publishes the events of requests of this age again that have no report and, as far as the database shows, neither an
   * instance log nor a dead letter. An event that was published less than half of `minAgeMs` ago is left out.
   *
   * @returns how many, at most `limit`
   */
  abstract resendLost(minAgeMs: number, maxAgeMs: number, limit: number): Promise<number>;
}

const SOURCE = /^[A-Z][A-Z0-9_]{0,19}$/;
const SOURCE_ID_MAX = 64;

export class InstanceUsecase implements OrderFulfilment {
  readonly orderType = 'INSTANCE';
  /** A product's specification never changes, so it is read once. Bounded by the number of products. */
  private readonly specs = new Map<bigint, ProductSpec>();

  constructor(
    private readonly transactions: TransactionRunner,
    private readonly ids: IdGenerator,
    private readonly products: ProductRepo,
    private readonly instances: InstanceRepo,
    private readonly orders: OrderRepo,
    private readonly refunds: RefundUsecase,
  ) {}

  /**
   * The only way to request an instance. Repeating a request changes nothing and returns the earlier instance.
   *
   * @throws INVALID_ARGUMENT source or source id is malformed, PRODUCT_NOT_FOUND, INSTANCE_SOURCE_REUSED,
   * ORDER_NOT_FOUND or ORDER_STATUS_CONFLICT if `orderId` is not a PAID order of this user and product
   */
  async createInstance(given: CreateInstance): Promise<InstanceRequest> {
    validateSource(given);
    const request = { ...given, sourceId: canonicalSourceId(given) };
    await this.loadSpecs([request]);
    return this.transactions.run(
      async (tx) => {
        // First the order, then the request, as a payment does. The other way round the two could deadlock.
        const order = request.orderId === undefined ? undefined : await this.lockOrder(tx, request.orderId, request);
        // Earlier versions stored the bare id of an order as its source id.
        const known = order?.instanceId === undefined ? undefined : await this.instances.lock(tx, order.instanceId);
        if (known?.source === request.source && canonicalSourceId(known) === request.sourceId) return known;
        const [created] = await this.createInstances(tx, [request]);
        if (!created) throw new Error('one request gives one instance');
        if (order) await this.assign(tx, order, created);
        return created;
      },
      { idempotent: true },
    );
  }

  /**
   * The set-based form, in the transaction of the caller. The caller writes the instance ids in the statement that stores
   * or pays its orders, because a second UPDATE would write each row and its indexes twice.
   *
   * @returns one for each request, in order
   */
  async createInstances(tx: Transaction, requests: readonly CreateInstance[]): Promise<readonly InstanceRequest[]> {
    if (requests.length === 0) return [];
    await this.loadSpecs(requests);
    return this.store(tx, this.plan(requests));
  }

  /** Gives each request the instance id that `storeNew` will store. Its spec must have been loaded. */
  plan(requests: readonly CreateInstance[]): readonly InstanceEvent[] {
    requests.forEach(validateSource);
    const at = new Date();
    return requests.map((r): InstanceEvent => {
      const instanceId = this.ids.nextId();
      // Field by field, because a spread of `r` takes longer in a settlement than the rest of this method.
      return {
        instanceId,
        productId: r.productId,
        userId: r.userId,
        source: r.source,
        sourceId: r.sourceId,
        orderId: r.orderId,
        trace: r.trace,
        name: instanceName(instanceId),
        spec: this.specOf(r.productId),
        at,
      };
    });
  }

  /**
   * Stores planned requests of new orders. It takes one statement, so that the caller can begin the next without waiting.
   *
   * @throws INSTANCE_SOURCE_REUSED if a source has an instance already, which cannot be that of a new order
   */
  async storeNew(tx: Transaction, planned: readonly InstanceEvent[]): Promise<void> {
    if (await this.instances.insertNew(tx, planned)) return;
    throw instanceSourceReused('a source of these new orders already has an instance');
  }

  private async store(tx: Transaction, planned: readonly InstanceEvent[]): Promise<readonly InstanceRequest[]> {
    const stored = await this.instances.insertRequests(tx, planned);
    stored.forEach((s, i) => {
      const w = planned[i];
      if (s.userId !== w?.userId || s.orderId !== w.orderId) throw sourceReused(s);
    });
    return stored;
  }

  async prepare(order: Pick<Order, 'productId'>): Promise<void> {
    if (order.productId !== undefined) await this.loadSpecs([{ productId: order.productId }]);
  }

  async fulfil(tx: Transaction, order: Order): Promise<{ readonly instanceId?: bigint }> {
    const { id: orderId, productId, userId } = order;
    if (productId === undefined) return {};
    const streamId = order.source === 'SECKILL' ? await this.orders.findStreamId(tx, orderId) : undefined;
    const source = streamId === undefined ? 'ORDER' : 'SECKILL';
    const sourceId = streamId ?? order.orderNo;
    const [request] = await this.createInstances(tx, [{ productId, userId, source, sourceId, orderId }]);
    return request === undefined ? {} : { instanceId: request.instanceId };
  }

  async afterPaid(_tx: Transaction, orders: readonly Order[]): Promise<readonly Order[]> {
    return orders;
  }

  /** Reads the specs for `createInstances`, so that it does not have to read them inside the transaction. */
  async loadSpecs(requests: readonly Pick<CreateInstance, 'productId'>[]): Promise<void> {
    for (const productId of new Set(requests.map((r) => r.productId))) {
      if (this.specs.has(productId)) continue;
      const product = await this.products.find(productId);
      if (!product) throw productNotFound(`no product ${productId}`, { metadata: { product_id: String(productId) } });
      this.specs.set(productId, product.spec);
    }
  }

  private specOf(productId: bigint): ProductSpec {
    const spec = this.specs.get(productId);
    if (!spec) throw new Error(`the spec of product ${productId} is not loaded`);
    return spec;
  }

  async getRequest(instanceId: bigint): Promise<InstanceRequest> {
    return (await this.instances.find(instanceId)) ?? this.noRequest(instanceId);
  }

  /**
   * Accepts a report of the resource domain: the order becomes COMPLETED, or REFUNDING with a refund if the creation
   * failed for good. Repeating a report changes nothing.
   *
   * @throws INSTANCE_REQUEST_NOT_FOUND, INSTANCE_REPORT_CONFLICT
   */
  async reportInstance(report: InstanceReport): Promise<InstanceRequest> {
    return this.transactions.run(
      async (tx) => {
        const request = (await this.instances.lock(tx, report.instanceId)) ?? this.noRequest(report.instanceId);
        if (request.status === report.status) return request;
        if (request.status !== 'REQUESTED') {
          throw instanceReportConflict(`instance ${report.instanceId} was already reported ${request.status}`, {
            metadata: { instance_id: String(report.instanceId), status: request.status },
          });
        }
        const reported = await this.instances.setReport(tx, report);
        if (reported.orderId !== undefined) await this.settleOrder(tx, reported.orderId, report);
        return reported;
      },
      { idempotent: true },
    );
  }

  /**
   * Accepts many reports. Those of created instances, nearly all, go together in one transaction. Each of the others goes
   * through `reportInstance`, and so does each report of a transaction that fails, so that it fails by itself.
   *
   * @returns for each report, in order, why it was not accepted; undefined: it was
   * @throws UNAVAILABLE when the database is unavailable; some of the reports may have been accepted then
   */
  async reportInstances(reports: readonly InstanceReport[]): Promise<readonly unknown[]> {
    const created = new Set<bigint>();
    await this.complete(
      reports.filter((r) => r.status === 'SUCCESS').map((r) => r.instanceId),
      created,
    );
    const failures: unknown[] = [];
    for (const report of reports) {
      const accepted = report.status === 'SUCCESS' && created.has(report.instanceId);
      failures.push(accepted ? undefined : await this.failureOf(report));
    }
    return failures;
  }

  /** A transaction that fails is halved, until the report at fault stands alone and is left out of `created`. */
  private async complete(instanceIds: readonly bigint[], created: Set<bigint>): Promise<void> {
    if (instanceIds.length === 0) return;
    try {
      const reported = await this.transactions.run((tx) => this.completeTogether(tx, instanceIds), {
        idempotent: true,
      });
      for (const { instanceId } of reported) created.add(instanceId);
    } catch (err) {
      if (isUnavailable(err)) throw err;
      if (instanceIds.length === 1) return;
      const half = instanceIds.length >> 1;
      await this.complete(instanceIds.slice(0, half), created);
      await this.complete(instanceIds.slice(half), created);
    }
  }

  private async completeTogether(tx: Transaction, instanceIds: readonly bigint[]) {
    const reported = await this.instances.setCreated(tx, instanceIds);
    const orderIds = reported.flatMap((r) => r.orderId ?? []);
    // An order that is refunded for another reason keeps its status. The report is recorded all the same.
    await completeOrders(this.orders, tx, orderIds, { status: 'PAID', orderType: 'INSTANCE' }, 'resource');
    return reported;
  }

  private async failureOf(report: InstanceReport): Promise<unknown> {
    try {
      await this.reportInstance(report);
      return undefined;
    } catch (err) {
      if (isUnavailable(err)) throw err;
      return err;
    }
  }

  private async settleOrder(tx: Transaction, orderId: bigint, report: InstanceReport): Promise<void> {
    const order = await this.orders.lock(tx, orderId, undefined);
    // An order that is refunded for another reason keeps its status. The report is recorded all the same.
    if (order?.status !== 'PAID') return;
    if (report.status === 'FAILED') {
      await this.refunds.openWhole(tx, order, 'resource', `INSTANCE_FAILED: ${report.reason}`);
      return;
    }
    const moved = await moveOrder(this.orders, tx, order, { to: 'COMPLETED', actor: 'resource', reason: '' });
    if (!moved) throw new Error(`order ${orderId} changed while it was locked`);
  }

  private async lockOrder(tx: Transaction, orderId: bigint, request: CreateInstance): Promise<Order> {
    const order = await this.orders.lock(tx, orderId, request.userId);
    if (!order || order.productId !== request.productId) {
      throw orderNotFound(`the user has no order ${orderId} of product ${request.productId}`, {
        metadata: { order_id: String(orderId) },
      });
    }
    return order;
  }

  private async assign(tx: Transaction, order: Order, created: InstanceRequest): Promise<void> {
    if (order.instanceId === created.instanceId) return;
    if (!(await this.orders.setInstance(tx, order.id, created.instanceId))) {
      throw orderStatusConflict(`order ${order.id} is ${order.status} or has another instance`, {
        metadata: { order_id: String(order.id), status: order.status },
      });
    }
  }

  private noRequest(instanceId: bigint): never {
    throw instanceRequestNotFound(`no instance request ${instanceId}`, {
      metadata: { instance_id: String(instanceId) },
    });
  }
}

/** The name of an instance, by which its creation is idempotent. */
export function instanceName(instanceId: bigint): string {
  return `inst-${instanceId}`;
}

/** Source ORDER: the order number, also if only the order id is given. */
function canonicalSourceId({ source, sourceId }: Pick<CreateInstance, 'source' | 'sourceId'>): string {
  return source === 'ORDER' && /^[0-9]{1,19}$/.test(sourceId) ? `ORD${sourceId}` : sourceId;
}

function sourceReused({ source, sourceId, productId }: InstanceRequest): Error {
  return instanceSourceReused(`${source} ${sourceId} already has an instance of another user or order`, {
    metadata: { source, source_id: sourceId, product_id: String(productId) },
  });
}

function validateSource(request: CreateInstance): void {
  const violations = [];
  if (!SOURCE.test(request.source)) {
    violations.push({ field: 'source', description: 'must be 1 to 20 of A-Z, 0-9 and _, starting with a letter' });
  }
  if (request.sourceId.length === 0 || request.sourceId.length > SOURCE_ID_MAX) {
    violations.push({ field: 'source_id', description: `must have 1 to ${SOURCE_ID_MAX} characters` });
  }
  if (violations.length > 0) {
    throw invalidArgument(violations.map((v) => `${v.field} ${v.description}`).join('; '), { violations });
  }
}
