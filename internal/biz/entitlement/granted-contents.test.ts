import assert from 'node:assert/strict';
import type { SkuContent } from '../catalog/sku-content.js';
import type { OrderItem } from '../order/order-item.js';
import { openedBy } from './granted-contents.js';

const line = (skuId: bigint, quantity: number, contents: readonly SkuContent[], goodsType = 'CARD'): OrderItem => ({
  ...{ skuId, spuId: 1n, sellerId: undefined, spuName: '', skuName: '', skuImage: '', specs: {}, priceFen: 1n },
  ...{ quantity, promotionFen: 0n, goodsType, contents },
});
const opened = (items: readonly OrderItem[], kept?: readonly { skuId: bigint; quantity: number }[]) =>
  openedBy({ id: 1n, userId: 'u', items }, kept).map((e) => [e.contentId, e.days, e.goodsType]);

describe('openedBy', () => {
  it('opens the content of an order of a content, for its days', () => {
    const content = { id: 5n, type: 'COURSE', days: 30 };
    assert.deepEqual(openedBy({ id: 1n, userId: 'u', content }), [
      { orderId: 1n, userId: 'u', contentId: 5n, days: 30, goodsType: undefined },
    ]);
  });

  it('adds up the days of every unit of every line, each content once', () => {
    const items = [
      line(1n, 2, [{ contentId: 9n, days: 30 }]),
      line(2n, 1, [
        { contentId: 9n, days: 5 },
        { contentId: 8n, days: 1 },
      ]),
    ];
    assert.deepEqual(opened(items), [
      [8n, 1, 'CARD'],
      [9n, 65, 'CARD'],
    ]);
  });

  it('opens a content for ever if one line does, whichever comes first', () => {
    const lines = [
      line(1n, 2, [{ contentId: 9n, days: 30 }], 'A'),
      line(2n, 1, [{ contentId: 9n, days: undefined }], 'B'),
    ];
    assert.deepEqual(opened(lines), [[9n, undefined, 'A']]);
    assert.deepEqual(opened([...lines].reverse()), [[9n, undefined, 'B']]);
  });

  it('counts only the units that are kept', () => {
    const items = [line(1n, 3, [{ contentId: 9n, days: 30 }]), line(2n, 1, [{ contentId: 8n, days: undefined }])];
    assert.deepEqual(opened(items, [{ skuId: 1n, quantity: 1 }]), [[9n, 30, 'CARD']]);
    assert.deepEqual(opened(items, []), []);
  });

  it('opens nothing for goods that open nothing, and for orders without lines', () => {
    assert.deepEqual(opened([line(1n, 3, [])]), []);
    assert.deepEqual(openedBy({ id: 1n, userId: 'u' }), []);
  });

  it('opens at most a thousand years', () => {
    assert.deepEqual(opened([line(1n, 10_000, [{ contentId: 9n, days: 36_500 }])]), [[9n, 365_000, 'CARD']]);
  });
});
