/** How long and how large: the whole bench, or a short one that shows that it works. */
export interface Plan {
  readonly name: 'full' | 'short';
  readonly rounds: number;
  /** Of one load. */
  readonly seconds: number;
  /** Calls of one run of redis-benchmark. */
  readonly scriptCalls: number;
  /** Orders that pg-limit inserts, and purchases that are settled, in one run. */
  readonly orders: number;
  /** Purchases that go all the way to their instance. */
  readonly completed: number;
  /** Orders of the tables that lists and statistics are asked of. */
  readonly joinOrders: number;
  /** Purchases of the long sale. */
  readonly longSale: number;
  /** Whether peers and load generators are built or installed that are not there yet. */
  readonly buildPeers: boolean;
}

export const FULL: Plan = {
  name: 'full',
  rounds: 3,
  seconds: 5,
  scriptCalls: 200_000,
  orders: 60_000,
  completed: 100_000,
  joinOrders: 1_000_000,
  longSale: 1_000_000,
  buildPeers: true,
};

export const SHORT: Plan = {
  name: 'short',
  rounds: 1,
  seconds: 1,
  scriptCalls: 5_000,
  orders: 3_000,
  completed: 500,
  joinOrders: 20_000,
  longSale: 4_000,
  buildPeers: false,
};
