import type { OrderStatus } from './order/order-state.js';
import type { SaleStatus } from './seckill/sale-state.js';

/** Statuses of refunds that wait for something: for a decision, for the payout, or for an operator. */
export type OpenRefundStatus = 'REQUESTED' | 'APPROVED' | 'FAILED';

export interface SaleUnits {
  readonly itemId: bigint;
  readonly status: SaleStatus;
  readonly total: number;
  readonly sold: number;
  readonly segments: number;
}

export interface SalesState {
  readonly byStatus: Readonly<Record<SaleStatus, number>>;
  /** Sales that are still SCHEDULED after their start. */
  readonly lateToOpen: number;
  /** Sales that are still OPEN after their end. */
  readonly lateToClose: number;
  /** Open sales, and those that open within a day. */
  readonly current: readonly SaleUnits[];
}

/** How much of what there is, for monitoring. Each method reads a bounded part of the database. */
export abstract class StateCounts {
  /** Orders of the last 24 hours. */
  abstract orders(): Promise<Readonly<Record<OrderStatus, number>>>;
  abstract openRefunds(): Promise<Readonly<Record<OpenRefundStatus, number>>>;
  /** Dead letters that no operator has resolved, by domain. */
  abstract deadLetters(): Promise<Readonly<Record<'product' | 'resource', number>>>;
  /** @param limit of `current` */
  abstract sales(limit: number): Promise<SalesState>;
}
