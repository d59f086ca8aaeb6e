import assert from 'node:assert/strict';
import { Refund_Status as Status } from '../../gen/order/v1/refund.js';
import type { RefundStatus } from '../biz/order/refund-state.js';
import { enumName } from './enum-name.js';

describe('The name of an enum value', () => {
  it('is the one in the proto, as the domain writes it', () => {
    const name: RefundStatus | undefined = enumName(Status, Status.REFUSED);
    assert.equal(name, 'REFUSED');
  });

  it('is undefined for the zero value and for unknown numbers', () => {
    for (const value of [Status.STATUS_UNSPECIFIED, Status.UNRECOGNIZED, 99, 0.5, Number.NaN])
      assert.equal(enumName(Status, value), undefined);
  });
});
