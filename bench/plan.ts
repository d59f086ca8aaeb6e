/** Durations and sizes: the full bench, or a short one that only shows that it works. */
export interface Plan {
  readonly name: 'full' | 'short';
  readonly rounds: number;
  /** Duration of one load. */
  readonly seconds: number;
  /** Calls in one run of redis-benchmark. */
  readonly scriptCalls: number;
  /** Orders that pg-limit inserts and purchases that are settled in one run. */
  readonly orders: number;
  /** Purchases that are followed until their instance is created. */
  readonly completed: number;
  /** Instances that are created on Kubernetes. */
  readonly instances: number;
  /** Orders in the tables for lists and statistics. */
  readonly joinOrders: number;
  /** Carts that are saved while others change. */
  readonly carts: number;
  /** Purchases in the long sale. */
  readonly longSale: number;
  /** Whether missing peers and load generators are built or installed. */
  readonly buildPeers: boolean;
}

export const FULL: Plan = {
  name: 'full',
  rounds: 3,
  seconds: 5,
  scriptCalls: 200_000,
  orders: 60_000,
  completed: 100_000,
  instances: 1_000,
  joinOrders: 1_000_000,
  carts: 100_000,
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
  instances: 100,
  joinOrders: 20_000,
  carts: 2_000,
  longSale: 4_000,
  buildPeers: false,
};
