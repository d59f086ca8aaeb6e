import assert from 'node:assert/strict';
import slotOf from 'cluster-key-slot';
import { segmentsOf } from '../../biz/seckill/segment.js';
import { KeySpace } from './seckill-keys.js';

describe('The keys of segments', () => {
  it('are those of a sale without segments in segment 0, and else have the segment behind the item', () => {
    const keys = new KeySpace('p:');
    assert.deepEqual(keys.sale(1001n, 0), keys.sale(1001n));
    assert.equal(keys.sale(1001n).stream, 'p:stream:seckill:1001');
    assert.equal(keys.sale(1001n, 2).stream, 'p:stream:seckill:1001#2');
    assert.equal(keys.sale(1001n, 2).meta, 'p:seckill:1001#2:meta');
  });

  it('name their item and segment, and others name none', () => {
    for (const keys of [new KeySpace('p:'), new KeySpace('p:', true)]) {
      for (const segment of [0, 1, 9, 63]) {
        assert.deepEqual(keys.streamOf(keys.sale(1001n, segment).stream), { itemId: 1001n, segment });
      }
      for (const name of ['1001#64', '1001#0', '1001#01', '{1001#1}', '{1001#1.99999}', '9223372036854775808', 'x']) {
        assert.equal(keys.streamOf(`p:stream:seckill:${name}`), undefined, name);
      }
    }
  });

  it('spread a sale of a power of two segments evenly over the slots of a cluster', () => {
    const keys = new KeySpace('', true);
    for (const itemId of [1001n, 1002n, 7_777_777_777n]) {
      for (const segments of [2, 4, 8, 16, 64]) {
        const own = segmentsOf(segments).map((k) => keys.sale(itemId, k));
        const slots = own.map(({ meta }) => slotOf(meta)).sort((a, b) => a - b);
        const gaps = slots.map((slot, i) => (i === 0 ? slot + 16_384 - slots.at(-1)! : slot - slots[i - 1]!));
        assert.ok(Math.max(...gaps) <= 16_384 / segments + 128, `${itemId} in ${segments}: ${slots}`);
        for (const all of own) assert.equal(new Set(Object.values(all).map((key) => slotOf(key))).size, 1);
      }
    }
  });
});
