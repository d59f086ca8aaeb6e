import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { whileRenewing } from './lease.js';

describe('whileRenewing', () => {
  it('renews until the work is done, and not afterwards', async () => {
    let renewals = 0;
    const renew = async () => void renewals++;
    const result = await whileRenewing(30, renew, async () => {
      while (renewals < 3) await sleep(1);
      return 'done';
    });
    assert.equal(result, 'done');
    const after = renewals;
    await sleep(50);
    assert.equal(renewals, after);
  });

  it('goes on after a renewal that fails', async () => {
    let renewals = 0;
    const renew = async () => {
      renewals += 1;
      throw new Error('away');
    };
    await whileRenewing(15, renew, async () => {
      while (renewals < 2) await sleep(1);
    });
    assert.ok(renewals >= 2);
  });

  it('has no renewal in progress when it ends, also when the work fails', async () => {
    let renewing = 0;
    const renew = async () => {
      renewing += 1;
      await sleep(20);
      renewing -= 1;
    };
    const work = async () => {
      while (renewing === 0) await sleep(1);
      throw new Error('failed');
    };
    await assert.rejects(whileRenewing(15, renew, work), /failed/);
    assert.equal(renewing, 0);
  });
});
