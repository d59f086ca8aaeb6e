import assert from 'node:assert/strict';
import { isInvalidArgument } from '../../../gen/common/v1/errors.js';
import type { OrderItem } from './order-item.js';
import { RefundableLines } from './refund-lines.js';

const item = (skuId: bigint, quantity: number, priceFen: bigint, promotionFen = 0n): OrderItem => ({
  ...{ skuId, spuId: 1n, spuName: '', skuName: '', skuImage: '', specs: {}, sellerId: undefined },
  ...{ priceFen, quantity, promotionFen, goodsType: '', contents: [] },
});

describe('RefundableLines', () => {
  const items = [item(1n, 3, 100n, 1n), item(2n, 1, 50n)];

  it('refunds the units of a line in any portions, which add up to what the buyer paid for it', () => {
    for (const portions of [[1, 1, 1], [2, 1], [1, 2], [3]]) {
      const refunds: { skuId: bigint; quantity: number; amountFen: bigint }[][] = [];
      for (const quantity of portions) {
        refunds.push([...new RefundableLines(items, refunds).take([{ skuId: 1n, quantity }])]);
      }
      const amounts = refunds.flat().map((line) => line.amountFen);
      assert.equal(
        amounts.reduce((a, b) => a + b),
        299n,
        `portions ${portions}`,
      );
      for (const amount of amounts) assert.ok(amount >= 99n);
    }
  });

  it('adds up a sku that is named twice, and sorts the lines by sku', () => {
    const wanted = [2n, 1n, 1n].map((skuId) => ({ skuId, quantity: 1 }));
    const lines = new RefundableLines(items, []).take(wanted);
    assert.deepEqual(
      lines.map((line) => [line.skuId, line.quantity]),
      [
        [1n, 2],
        [2n, 1],
      ],
    );
  });

  it('knows what is left, and whether lines are all of it', () => {
    const left = new RefundableLines(items, [[{ skuId: 1n, quantity: 2 }], [{ skuId: 2n, quantity: 1 }]]);
    assert.deepEqual(left.units, [{ skuId: 1n, quantity: 1 }]);
    assert.equal(left.isAll([{ skuId: 1n, quantity: 1 }]), true);
    assert.equal(new RefundableLines(items, []).isAll([{ skuId: 1n, quantity: 3 }]), false);
  });

  it('rejects an unknown sku and more units than are left, naming the line', () => {
    const left = new RefundableLines(items, [[{ skuId: 1n, quantity: 2 }]]);
    const bad: [lines: { skuId: bigint; quantity: number }[], field: string][] = [
      [[{ skuId: 9n, quantity: 1 }], 'lines[0].sku_id'],
      [[{ skuId: 1n, quantity: 2 }], 'lines[0].quantity'],
      [[{ skuId: 1n, quantity: 0 }], 'lines[0].quantity'],
      [[{ skuId: 1n, quantity: 0.5 }], 'lines[0].quantity'],
      [
        [
          { skuId: 2n, quantity: 1 },
          { skuId: 2n, quantity: 1 },
        ],
        'lines[1].quantity',
      ],
    ];
    for (const [lines, field] of bad) {
      assert.throws(
        () => left.take(lines),
        (err) => isInvalidArgument(err) && err.violations[0]?.field === field,
      );
    }
  });
});
