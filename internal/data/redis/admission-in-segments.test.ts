import assert from 'node:assert/strict';
import { MemoryAdmission } from '../../../test/support/memory/admission.js';
import { MemoryRedis } from '../../../test/support/memory/redis.js';
import { openSale } from '../../../test/support/memory/settlement.js';
import type { SettingsChange } from '../../biz/seckill/admission.js';

const SEGMENTS = 3;
const SALE = openSale({ id: 1n, itemId: 2n, total: 6n, segments: SEGMENTS });
const CHANGE: SettingsChange = {
  ...{ from: SALE.settingsVersion, to: SALE.settingsVersion + 1n, total: 8n, endsAt: undefined },
  ...{ defaultLimit: 1, admitRate: 0, vipLimits: [] },
};

describe('Admission in segments', () => {
  it('gives a changed total to the sale once, although another process has told one segment of it meanwhile', async () => {
    let atConfigure = () => {};
    let looks = 0;
    const redis: MemoryRedis = new MemoryRedis(Date.now, async (operation, work) => {
      if (operation === 'redis.state' && ++looks === SEGMENTS + 1) atConfigure();
      if (operation === 'redis.configure') atConfigure();
      return work();
    });
    const admission = new MemoryAdmission(redis);
    const lease = await admission.leaseLoad(SALE.itemId, SEGMENTS);
    await lease!.load({
      ...{ sale: SALE, stock: SALE.total, buyers: new Map(), vipLimits: [], backlogLimit: 100 },
      counted: Array.from({ length: SEGMENTS }, () => ({ from: '0-0', to: '0-0' })),
    });
    atConfigure = () => {
      atConfigure = () => {};
      assert.ok(redis.configure(SALE, { ...CHANGE, total: 3n }));
    };
    assert.equal(await admission.configure(SALE, CHANGE), false);
    const { loaded } = await admission.state(SALE.itemId, SEGMENTS);
    assert.deepEqual([loaded?.settingsVersion, loaded?.total, loaded?.stock], [CHANGE.to, 8n, 8n]);
  });
});
