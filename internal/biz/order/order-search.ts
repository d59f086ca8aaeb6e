import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { limitOf } from '../page.js';
import { decodePageToken, type TokenPage, tokenPage } from '../page-token.js';
import type { Order, OrderSource, OrderStatus, OrderType } from './order-state.js';

/** What an operator looks for; absent fields match every order. */
export interface OrderSearchFilter {
  readonly status?: OrderStatus | undefined;
  readonly orderType?: OrderType | undefined;
  readonly source?: OrderSource | undefined;
  readonly userId?: string | undefined;
  readonly saleId?: bigint | undefined;
  /** Of at least one line. */
  readonly skuId?: bigint | undefined;
  readonly createdFrom?: Date | undefined;
  /** Exclusive. */
  readonly createdBefore?: Date | undefined;
}

export interface OrderStatsPeriod {
  readonly from: Date;
  /** Exclusive. */
  readonly before: Date;
  /** Minutes by which local time, whose days are counted, is ahead of UTC. */
  readonly utcOffsetMinutes: number;
}

export interface OrderStatsRow {
  /** Such as 2026-11-21. */
  readonly day: string;
  readonly status: OrderStatus;
  readonly orderType: OrderType;
  readonly orders: bigint;
  readonly amountFen: bigint;
}

type Optional<T> = { readonly [K in keyof T]: T[K] | undefined };

export abstract class OrderSearchRepo {
  /** By id, descending. @param belowId only orders with a lower id */
  abstract search(filter: OrderSearchFilter, belowId: bigint | undefined, limit: number): Promise<readonly Order[]>;
  /** By day, status and type. */
  abstract stats(period: OrderStatsPeriod): Promise<readonly OrderStatsRow[]>;
}

const STATS_DAYS = 30;
const STATS_MAX_DAYS = 92;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** What operators ask about the orders of all users. */
export class OrderSearchUsecase {
  constructor(private readonly orders: OrderSearchRepo) {}

  /**
   * @param limit 0: 20
   * @throws INVALID_ARGUMENT page_token, created_before
   */
  async search(filter: OrderSearchFilter, limit: number, pageToken: string): Promise<TokenPage<Order>> {
    const { status, orderType, source, userId, saleId, skuId, createdFrom, createdBefore } = filter;
    if (createdFrom && createdBefore) requireOrder(createdFrom, createdBefore);
    const list = { list: 'order search', status, orderType, source, userId, saleId, skuId, createdFrom, createdBefore };
    const belowId = decodePageToken(list, pageToken);
    const size = limitOf(limit);
    return tokenPage(list, size, await this.orders.search(filter, belowId, size + 1));
  }

  /** The 30 days before the end of this hour, unless the period says otherwise. @throws INVALID_ARGUMENT created_before */
  async stats(period: Partial<Optional<OrderStatsPeriod>>): Promise<readonly OrderStatsRow[]> {
    const { before = endOfHour(), utcOffsetMinutes = 0 } = period;
    const { from = new Date(before.getTime() - STATS_DAYS * DAY_MS) } = period;
    requireOrder(from, before);
    if (before.getTime() - from.getTime() > STATS_MAX_DAYS * DAY_MS) {
      throw badPeriod(`must be at most ${STATS_MAX_DAYS} days after created_from`);
    }
    return this.orders.stats({ from, before, utcOffsetMinutes });
  }
}

/** No order is of a later time than now, and orders are counted in advance by parts of an hour. */
function endOfHour(): Date {
  return new Date(Math.ceil(Date.now() / HOUR_MS) * HOUR_MS);
}

function requireOrder(from: Date, before: Date): void {
  if (before <= from) throw badPeriod('must be after created_from');
}

function badPeriod(description: string): Error {
  return invalidArgument(`created_before ${description}`, { violations: [{ field: 'created_before', description }] });
}
