import type { FreeUnits } from './stock.js';

/**
 * The free units of skus as they were last published: a hint that turns buyers away before PostgreSQL, which has the last
 * word. Each copy lives for a few seconds only, so a lost, late or missing publication heals by itself; it can let too
 * many through or turn some away meanwhile, and never creates or loses a unit. Neither method throws.
 */
export abstract class StockGate {
  /** Skus without a fresh copy are left out: ask PostgreSQL. */
  abstract read(skuIds: readonly bigint[]): Promise<ReadonlyMap<bigint, bigint>>;
  /** Returns at once. A copy that is newer by `seq` stays. */
  abstract publish(units: readonly FreeUnits[]): void;
}
