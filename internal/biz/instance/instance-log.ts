import type { Logger } from '../../kratos/log/logger.js';
import { type Identity, isUuid, NIL_UUID } from '../identity.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import { instanceName } from './instance.js';

export type InstanceLogStatus = 'PROCESSING' | 'SUCCESS' | 'FAILED';

/** The size of an instance as the resource domain knows it. */
export interface InstanceSize {
  readonly cpus: number;
  readonly memoryMb: number;
  readonly gpu: number;
  readonly image: string;
}

/** What the product domain asked for. (source, product, source id) is its identity. */
export interface InstanceOrder {
  readonly instanceId: bigint;
  readonly productId: bigint;
  /** UUID. */
  readonly userId: string;
  readonly source: string;
  readonly sourceId: string;
  readonly orderId: bigint | undefined;
  readonly name: string;
  readonly size: InstanceSize;
  /** W3C traceparent of the message that asked for it. */
  readonly trace?: string | undefined;
}

export interface InstanceLog extends InstanceOrder {
  readonly id: bigint;
  readonly status: InstanceLogStatus;
  /** Why it failed. */
  readonly reason: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A log that somebody works on, alone until the lease ends. */
export interface InstanceJob extends InstanceLog {
  /** Creations that failed and could be tried again. */
  readonly attempts: number;
  readonly reportAttempts: number;
  /** By the database's clock. */
  readonly leaseEndsAt: Date;
}

export interface InstanceDeadLetter {
  readonly queue: string;
  readonly payload: Uint8Array;
  readonly reason: string;
}

export interface InstanceOutcome {
  readonly job: InstanceJob;
  readonly status: 'SUCCESS' | 'FAILED';
  readonly reason: string;
}

export interface InstanceLogFilter {
  readonly userId?: string | undefined;
  readonly source?: string | undefined;
  readonly sourceId?: string | undefined;
  readonly productId?: bigint | undefined;
  readonly instanceId?: bigint | undefined;
  readonly status?: InstanceLogStatus | undefined;
}

export interface InstanceStats {
  readonly bySource: readonly {
    readonly source: string;
    readonly total: bigint;
    readonly success: bigint;
    readonly failed: bigint;
    readonly processing: bigint;
    /** Percent of total, two decimals. */
    readonly successRate: number;
  }[];
  /** Newest minute first. */
  readonly byMinute: readonly { readonly minute: Date; readonly source: string; readonly count: bigint }[];
}

export abstract class InstanceLogRepo {
  /**
   * Stores the orders that are new, PROCESSING, and tells for each given one, in order, what stands under its identity
   * or else under its instance id: itself, or what was there before.
   *
   * @throws DataRejected where the database refuses the values themselves
   */
  abstract insert(orders: readonly InstanceOrder[]): Promise<readonly InstanceLog[]>;
  /** Keeps messages that can never become an instance. One that an operator resolved before waits again. */
  abstract insertDeadLetters(letters: readonly InstanceDeadLetter[]): Promise<void>;
  /** Takes the oldest due PROCESSING job that nobody else has. */
  abstract claimToCreate(leaseMs: number): Promise<InstanceJob | undefined>;
  /** Takes due SUCCESS and FAILED jobs whose outcome the product domain has not taken. */
  abstract claimToReport(limit: number, leaseMs: number): Promise<readonly InstanceJob[]>;
  /** Counts a creation that failed but may be tried again after a wait. Nothing, if the lease is over. */
  abstract countAttempt(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void>;
  /** Gives a job back without counting anything. Nothing, if the lease is over. */
  abstract release(job: InstanceJob, retryAfterMs: number): Promise<void>;
  /**
   * Compare-and-set from PROCESSING. FAILED also needs the lease: after its end another worker may have the job, and may
   * succeed.
   *
   * @returns the status that the job has now: the given one, the one that another worker has set before, or PROCESSING
   */
  abstract settle(outcome: InstanceOutcome): Promise<InstanceLogStatus>;
  /** The product domain's last word: taken, or refused for a reason. */
  abstract markReported(job: InstanceJob, refusal: string): Promise<void>;
  /** Counts a report that was not taken but may be later. Nothing, if the lease is over. */
  abstract countReport(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void>;
  /** Newest first. */
  abstract list(filter: InstanceLogFilter, page: PageRequest): Promise<Page<InstanceLog>>;
  /** Of the logs created at `since` or later. */
  abstract stats(since: Date): Promise<InstanceStats>;
}

/** The database refuses a value that the rules here let through; trying again will not help. */
export class DataRejected extends Error {
  override readonly name = 'DataRejected';
}

/** What a queue message asks for, or why it cannot be read. */
export interface InstanceMessage {
  readonly payload: Uint8Array;
  readonly order: InstanceOrder | { readonly fault: string };
}

const STATS_WINDOW_MS = 3_600_000;

export class InstanceLogUsecase {
  constructor(
    private readonly logs: InstanceLogRepo,
    private readonly logger: Logger,
  ) {}

  /**
   * Puts messages on record: what can become an instance as a job, all else as a dead letter with its reason. When it
   * resolves, each of them is stored, so that the queue may forget them; recording one again changes nothing.
   *
   * @throws UNAVAILABLE when the database is away
   */
  async record(queue: string, messages: readonly InstanceMessage[]): Promise<void> {
    const dead: InstanceDeadLetter[] = [];
    const good: { order: InstanceOrder; payload: Uint8Array }[] = [];
    for (const { payload, order } of messages) {
      const fault = 'fault' in order ? order.fault : faultOf(order);
      if (fault === undefined) good.push({ order: order as InstanceOrder, payload });
      else dead.push({ queue, payload, reason: fault });
    }
    const stored = await this.insert(good.map((g) => g.order));
    good.forEach(({ order, payload }, i) => {
      const log = stored[i];
      const reason = log instanceof DataRejected ? log.message : log && conflictOf(log, order);
      if (reason !== undefined) dead.push({ queue, payload, reason });
    });
    if (dead.length === 0) return;
    await this.logs.insertDeadLetters(dead);
    this.logger.error('queue messages that cannot become an instance', { count: dead.length, reason: dead[0]?.reason });
  }

  /** A user's own logs; anybody's for an operator. Newest first. */
  list(caller: Identity, filter: InstanceLogFilter, page: PageRequest): Promise<Page<InstanceLog>> {
    const all = caller.role === 'ADMIN' || caller.role === 'INTERNAL';
    return this.logs.list(all ? filter : { ...filter, userId: caller.userId ?? NIL_UUID }, pageOf(page));
  }

  /** `since` undefined: of the last hour. */
  stats(since: Date | undefined): Promise<InstanceStats> {
    return this.logs.stats(since ?? new Date(Date.now() - STATS_WINDOW_MS));
  }

  /** One order that the database refuses must not keep out the others: then each goes by itself. */
  private async insert(orders: readonly InstanceOrder[]): Promise<readonly (InstanceLog | DataRejected)[]> {
    if (orders.length === 0) return [];
    try {
      return await this.logs.insert(orders);
    } catch (err) {
      if (!(err instanceof DataRejected)) throw err;
      if (orders.length === 1) return [err];
    }
    const half = Math.ceil(orders.length / 2);
    return [...(await this.insert(orders.slice(0, half))), ...(await this.insert(orders.slice(half)))];
  }
}

function conflictOf(log: InstanceLog, order: InstanceOrder): string | undefined {
  const differences = differencesOf(log, order);
  return differences.length === 0 ? undefined : `contradicts what was asked before: ${differences.join(', ')}`;
}

const SOURCE = /^[A-Z][A-Z0-9_]{0,19}$/;
const SOURCE_ID_MAX = 64;
const IMAGE_MAX = 255;

/** Why an order cannot be carried out as it is; undefined if it can. */
export function faultOf(order: InstanceOrder): string | undefined {
  const { size } = order;
  const faults = [
    order.instanceId <= 0n && 'instance_id must be above 0',
    order.productId <= 0n && 'product_id must be above 0',
    order.orderId !== undefined && order.orderId <= 0n && 'order_id must not be below 0',
    !isUuid(order.userId) && 'user_id must be a UUID',
    !SOURCE.test(order.source) && 'source must be 1 to 20 of A-Z, 0-9 and _, starting with a letter',
    !isText(order.sourceId, SOURCE_ID_MAX) && `source_id must have 1 to ${SOURCE_ID_MAX} characters`,
    order.name !== instanceName(order.instanceId) && `name must be ${instanceName(order.instanceId)}`,
    size.cpus <= 0 && 'spec.cpus must be above 0',
    size.memoryMb <= 0 && 'spec.memory_mb must be above 0',
    size.gpu < 0 && 'spec.gpu must not be below 0',
    !isText(size.image, IMAGE_MAX) && `spec.image must have 1 to ${IMAGE_MAX} characters`,
  ].filter((fault) => fault !== false);
  return faults.length === 0 ? undefined : faults.join('; ');
}

function isText(text: string, max: number): boolean {
  return text.length > 0 && text.length <= max && !text.includes('\0');
}

/** In what a log differs from the order that was given with the same identity; empty if it is the same order. */
export function differencesOf(log: InstanceLog, order: InstanceOrder): readonly string[] {
  const pairs: readonly (readonly [string, unknown, unknown])[] = [
    ['instance_id', log.instanceId, order.instanceId],
    ['source', log.source, order.source],
    ['product_id', log.productId, order.productId],
    ['source_id', log.sourceId, order.sourceId],
    ['user_id', log.userId, order.userId],
    ['order_id', log.orderId, order.orderId],
    ['name', log.name, order.name],
    ['spec.cpus', log.size.cpus, order.size.cpus],
    ['spec.memory_mb', log.size.memoryMb, order.size.memoryMb],
    ['spec.gpu', log.size.gpu, order.size.gpu],
    ['spec.image', log.size.image, order.size.image],
  ];
  return pairs.filter(([, before, now]) => before !== now).map(([field, before, now]) => `${field} ${before} → ${now}`);
}
