import assert from 'node:assert/strict';
import { canMove, type OrderStatus, type OrderType } from './order-state.js';

const STATUSES: readonly OrderStatus[] = ['PENDING', 'PAID', 'CANCELLED', 'COMPLETED', 'SHIPPED', 'REFUNDING'];

// The transitions of the domain model, by order type.
const ALLOWED: Readonly<Record<OrderType, readonly string[]>> = {
  INSTANCE: [
    'PENDING>PAID',
    'PENDING>CANCELLED',
    'PAID>COMPLETED',
    'PAID>REFUNDING',
    'COMPLETED>REFUNDING',
    'REFUNDING>CANCELLED',
    'REFUNDING>PAID',
    'REFUNDING>COMPLETED',
  ],
  GOODS: [
    'PENDING>PAID',
    'PENDING>CANCELLED',
    'PAID>SHIPPED',
    'PAID>REFUNDING',
    'SHIPPED>COMPLETED',
    'SHIPPED>REFUNDING',
    'COMPLETED>REFUNDING',
    'REFUNDING>CANCELLED',
    'REFUNDING>PAID',
    'REFUNDING>SHIPPED',
    'REFUNDING>COMPLETED',
  ],
  CONTENT: [
    'PENDING>PAID',
    'PENDING>CANCELLED',
    'PAID>COMPLETED',
    'PAID>REFUNDING',
    'COMPLETED>REFUNDING',
    'REFUNDING>CANCELLED',
    'REFUNDING>PAID',
    'REFUNDING>COMPLETED',
  ],
};

describe('The order state machine', () => {
  for (const [orderType, allowed] of Object.entries(ALLOWED) as [OrderType, readonly string[]][]) {
    it(`allows exactly the transitions of the domain model for ${orderType} orders`, () => {
      const found = STATUSES.flatMap((from) =>
        STATUSES.filter((to) => canMove({ status: from, orderType }, to)).map((to) => `${from}>${to}`),
      );
      assert.deepEqual(found.sort(), [...allowed].sort());
    });
  }
});
