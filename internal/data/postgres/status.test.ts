import assert from 'node:assert/strict';
import { ORDER_STATUS, orderStatusOf, SALE_STATUS, saleStatusOf } from './status.js';

describe('status numbers', () => {
  it('reads back every status that it writes', () => {
    for (const [status, code] of Object.entries(ORDER_STATUS)) assert.equal(orderStatusOf(code), status);
    for (const [status, code] of Object.entries(SALE_STATUS)) assert.equal(saleStatusOf(code), status);
  });

  it('rejects a number that no status has', () => {
    assert.throws(() => orderStatusOf(6), /orders\.status has unknown value 6/);
  });
});
