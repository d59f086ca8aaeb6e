import type { OrderPolicy } from './order.js';

/** What the shop settles by configuration; biz does not know configuration files. */
export interface Policy {
  readonly order: OrderPolicy;
}

/** What the container knows the policy by. */
export const POLICY = Symbol('Policy');
