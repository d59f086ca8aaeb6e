import type { Logger } from '../../kratos/log/logger.js';
import { type Identity, isUuid, NIL_UUID } from '../identity.js';
import { type Page, type PageRequest, pageOf } from '../page.js';
import { instanceName } from './instance.js';
import type { InstanceRemovalRepo, InstanceRemovalRequest } from './instance-removal.js';

export type InstanceLogStatus = 'PROCESSING' | 'SUCCESS' | 'FAILED';

/** The size of an instance, in the units of the resource domain. */
export interface InstanceSize {
  readonly cpus: number;
  readonly memoryMb: number;
  readonly gpu: number;
  readonly image: string;
}

/** A request of the product domain. (source, product, source id) is its identity. */
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
  /** W3C traceparent of the message. */
  readonly trace?: string | undefined;
}

export interface InstanceLog extends InstanceOrder {
  readonly id: bigint;
  readonly status: InstanceLogStatus;
  /** Why it failed; empty: it did not. */
  readonly reason: string;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A log that one worker has claimed until the lease ends. */
export interface InstanceJob extends InstanceLog {
  /** Failed attempts that may be repeated. */
  readonly attempts: number;
  readonly reportAttempts: number;
  /** By the clock of the database. `renew` moves it. */
  leaseEndsAt: Date;
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
  /** Empty: it has none. */
  readonly address: string;
  /** How long the caller keeps the job, in order to report it. Default: not at all, so that any worker may claim it. */
  readonly keepMs?: number;
}

export interface InstanceLogFilter {
  readonly userId?: string | undefined;
  readonly source?: string | undefined;
  /** Any of these. */
  readonly sourceIds?: readonly string[] | undefined;
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
   * Stores the new orders as PROCESSING.
   *
   * @returns for each given order, in order, the log with its identity or else its instance id if any of them was known
   * before; undefined: it is stored as given
   * @throws DataRejected when the database rejects a value
   */
  abstract insert(orders: readonly InstanceOrder[]): Promise<readonly (InstanceLog | undefined)[]>;
  /** Stores messages that can never become an instance. One that an operator has resolved before waits again. */
  abstract insertDeadLetters(letters: readonly InstanceDeadLetter[]): Promise<void>;
  /** Claims the oldest PROCESSING job that is due. */
  abstract claimToCreate(leaseMs: number): Promise<InstanceJob | undefined>;
  /** Claims SUCCESS and FAILED jobs that are due and whose result the product domain has not accepted or refused yet. */
  abstract claimToReport(limit: number, leaseMs: number): Promise<readonly InstanceJob[]>;
  /** Moves the end of the job's lease to `leaseMs` from now. Does nothing if another worker has the lease. */
  abstract renew(job: InstanceJob, leaseMs: number): Promise<void>;
  /** Counts a failed attempt, to be repeated after the wait. Does nothing if another worker has the lease. */
  abstract countAttempt(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void>;
  /** Ends the lease without counting an attempt. Does nothing if another worker has the lease. */
  abstract release(job: InstanceJob, retryAfterMs: number): Promise<void>;
  /**
   * Compare-and-set from PROCESSING. FAILED also needs the lease: after its end another worker may have the job, and may
   * succeed. It ends the lease, or moves its end to `keepMs` from now.
   *
   * @returns the status that the job has now: the given one, the one that another worker has set before, or PROCESSING
   */
  abstract settle(outcome: InstanceOutcome): Promise<InstanceLogStatus>;
  /** Records that the product domain accepted the report, or why it refused it for good. `refusal` empty: accepted. */
  abstract markReported(job: InstanceJob, refusal: string): Promise<void>;
  /** Counts a failed report, to be repeated after the wait. Does nothing if another worker has the lease. */
  abstract countReport(job: InstanceJob, reason: string, retryAfterMs: number): Promise<void>;
  /** Newest first. */
  abstract list(filter: InstanceLogFilter, page: PageRequest): Promise<Page<InstanceLog>>;
  /** Of the logs created at `since` or later. */
  abstract stats(since: Date): Promise<InstanceStats>;
}

/** The database rejects a value that the checks here accept. Repeating the call does not help. */
export class DataRejected extends Error {
  override readonly name = 'DataRejected';
}

/** The content of a queue message, or why it cannot be read. */
export interface InstanceMessage {
  readonly payload: Uint8Array;
  readonly order: InstanceOrder | { readonly removal: InstanceRemovalRequest } | { readonly fault: string };
}

const STATS_WINDOW_MS = 3_600_000;

export class InstanceLogUsecase {
  constructor(
    private readonly logs: InstanceLogRepo,
    private readonly removals: InstanceRemovalRepo,
    private readonly logger: Logger,
  ) {}

  /**
   * Stores each message: as a job if it can become an instance, as a removal, or as a dead letter with the reason. When it
   * resolves, the queue may drop them all. Recording a message again changes nothing.
   *
   * @throws UNAVAILABLE when the database is unavailable
   */
  async record(queue: string, messages: readonly InstanceMessage[]): Promise<void> {
    const dead: InstanceDeadLetter[] = [];
    const good: { order: InstanceOrder; payload: Uint8Array }[] = [];
    const removals: InstanceRemovalRequest[] = [];
    for (const { payload, order } of messages) {
      if ('removal' in order) {
        if (order.removal.instanceId > 0n) removals.push(order.removal);
        else dead.push({ queue, payload, reason: 'instance_id must be above 0' });
        continue;
      }
      const fault = 'fault' in order ? order.fault : faultOf(order);
      if (fault === undefined) good.push({ order: order as InstanceOrder, payload });
      else dead.push({ queue, payload, reason: fault });
    }
    if (removals.length > 0) await this.removals.requestRemovals(removals);
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

  /** The logs of the calling user; those of all users for an operator. Newest first. */
  list(caller: Identity, filter: InstanceLogFilter, page: PageRequest): Promise<Page<InstanceLog>> {
    const all = caller.role === 'ADMIN' || caller.role === 'INTERNAL';
    return this.logs.list(all ? filter : { ...filter, userId: caller.userId ?? NIL_UUID }, pageOf(page));
  }

  /** `since` undefined: the last hour. */
  stats(since: Date | undefined): Promise<InstanceStats> {
    return this.logs.stats(since ?? new Date(Date.now() - STATS_WINDOW_MS));
  }

  /** If the database rejects the batch, its halves are stored separately, until the faulty order stands alone. */
  private async insert(orders: readonly InstanceOrder[]): Promise<readonly (InstanceLog | DataRejected | undefined)[]> {
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
  return differences.length === 0 ? undefined : `differs from the earlier request: ${differences.join(', ')}`;
}

const SOURCE = /^[A-Z][A-Z0-9_]{0,19}$/;
const SOURCE_ID_MAX = 64;
const IMAGE_MAX = 255;

/** Why an order can never become an instance; undefined: it can. */
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

/** The fields in which a log differs from an order with the same identity. */
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
