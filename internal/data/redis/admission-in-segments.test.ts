import assert from 'node:assert/strict';
import { isSaleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { MemoryAdmission } from '../../../test/support/memory/admission.js';
import { MemoryRedis } from '../../../test/support/memory/redis.js';
import { openSale } from '../../../test/support/memory/settlement.js';
import { ConnectionLost } from '../../../test/support/memory/store.js';
import { formatUserId } from '../../biz/identity.js';
import type { AdmissionResult, PurchaseRequest, SettingsChange } from '../../biz/seckill/admission.js';
import { homeSegment } from '../../biz/seckill/segment.js';

const SEGMENTS = 3;
const SALE = openSale({ id: 1n, itemId: 2n, total: 6n, segments: SEGMENTS });
const CHANGE: SettingsChange = {
  ...{ from: SALE.settingsVersion, to: SALE.settingsVersion + 1n, total: 8n, endsAt: undefined },
  ...{ defaultLimit: 1, admitRate: 0, vipLimits: [] },
};

async function opened(redis: MemoryRedis): Promise<MemoryAdmission> {
  const admission = new MemoryAdmission(redis);
  const lease = await admission.leaseLoad(SALE.itemId, SEGMENTS);
  await lease!.load({
    ...{ sale: SALE, stock: SALE.total, buyers: new Map(), vipLimits: [], backlogLimit: 100 },
    counted: Array.from({ length: SEGMENTS }, () => ({ from: '0-0', to: '0-0' })),
  });
  await lease!.release();
  return admission;
}

/** Purchases of users whose homes are these segments, one for each. */
function requestsAt(...homes: readonly number[]): PurchaseRequest[] {
  let user = 0;
  return homes.map((home) => {
    do user += 1;
    while (homeSegment(formatUserId(String(user)), SEGMENTS) !== home);
    return { userId: formatUserId(String(user)), quantity: 1, requestId: '', traceparent: '' };
  });
}

describe('Admission in segments', () => {
  it('answers the purchases of the other segments while one does not answer', async () => {
    const redis = new MemoryRedis();
    const admission = await opened(redis);
    const admit = redis.at(1).admit;
    redis.at(1).admit = () => {
      throw new ConnectionLost('not sent');
    };
    const requests = requestsAt(0, 1, 2, 1);
    const kinds = (results: readonly AdmissionResult[]) => results.map((r) => r.kind);
    assert.deepEqual(kinds(await admission.admitAll(SALE, requests)), [
      'QUEUED',
      'UNCONFIRMED',
      'QUEUED',
      'UNCONFIRMED',
    ]);
    await assert.rejects(admission.admitAll(SALE, [requests[1]!, requests[3]!]), isSaleUnavailable);
    redis.at(1).admit = admit;
    assert.deepEqual(kinds(await admission.admitAll(SALE, [requests[1]!, requests[3]!])), ['QUEUED', 'QUEUED']);
  });

  it('answers repeated requests of the other segments after the end while one does not answer', async () => {
    const redis = new MemoryRedis();
    const admission = await opened(redis);
    const requests = requestsAt(0, 1, 2).map((r) => ({ ...r, requestId: 'r' }));
    const [first] = await admission.admitAll(SALE, requests.slice(0, 2));
    redis.at(1).findAdmitted = () => {
      throw new ConnectionLost('not sent');
    };
    assert.deepEqual(await admission.findAdmitted(SALE.itemId, requests, SEGMENTS), [
      first,
      { kind: 'UNCONFIRMED' },
      { kind: 'ENDED' },
    ]);
    await assert.rejects(admission.findAdmitted(SALE.itemId, [requests[1]!], SEGMENTS), isSaleUnavailable);
  });

  it('takes the units of the segments that answer while one does not, and says SOLD_OUT to no user', async () => {
    const redis = new MemoryRedis();
    const admission = await opened(redis);
    const level = redis.at(2).level.bind(redis.at(2));
    redis.at(2).level = () => {
      throw new ConnectionLost('not sent');
    };
    const kinds = async (...homes: readonly number[]) => {
      const results = await admission.admitAll(SALE, requestsAt(...homes));
      return results.map((r) => r.kind).join(' ');
    };
    // Of 2 units in each segment, home 0 has its own and those of segment 1.
    assert.equal(await kinds(0, 0, 0, 0, 0, 0), 'QUEUED QUEUED QUEUED QUEUED UNCONFIRMED UNCONFIRMED');
    await assert.rejects(kinds(1), isSaleUnavailable);
    redis.at(2).level = level;
    const later = requestsAt(0, 0, 0, 0, 0, 0, 0, 1).slice(-2);
    assert.deepEqual(
      (await admission.admitAll(SALE, later)).map((r) => r.kind),
      ['QUEUED', 'QUEUED'],
    );
    assert.equal(await kinds(2), 'SOLD_OUT');
  });

  it('still counts units that came back in another segment than they were counted in, so that the sale keeper sees it', async () => {
    const redis = new MemoryRedis();
    const admission = await opened(redis);
    const { itemId, epoch } = SALE;
    const { userId } = requestsAt(1)[0]!;
    const streamId = redis.add(itemId, new Map([['uid', userId]]));
    const units = { userId, epoch, quantity: 1 };
    const correction = { ...units, entryEpoch: undefined, outcome: 'ORDER' } as const;
    redis.finish(itemId, [{ streamId, uid: userId, correction }]);
    assert.ok(await admission.returnUnits({ ...units, returnId: 1n, itemId, segments: SEGMENTS }));
    const counts = redis.servers.map((server) => server.unitsOf(itemId).get(userId) ?? 0);
    assert.deepEqual(counts, [1, -1, 0]);
    assert.deepEqual(await admission.unitsOf(itemId, [userId], SEGMENTS), new Map([[userId, 1]]));
  });

  it('gives a changed total to the sale once, although another process has told one segment of it meanwhile', async () => {
    let atConfigure = () => {};
    let looks = 0;
    const redis: MemoryRedis = new MemoryRedis(Date.now, async (operation, work) => {
      if (operation === 'redis.state' && ++looks === SEGMENTS + 1) atConfigure();
      if (operation === 'redis.configure') atConfigure();
      return work();
    });
    const admission = await opened(redis);
    atConfigure = () => {
      atConfigure = () => {};
      assert.ok(redis.configure(SALE, { ...CHANGE, total: 3n }));
    };
    assert.equal(await admission.configure(SALE, CHANGE), false);
    const { loaded } = await admission.state(SALE.itemId, SEGMENTS);
    assert.deepEqual([loaded?.settingsVersion, loaded?.total, loaded?.stock], [CHANGE.to, 8n, 8n]);
  });
});
