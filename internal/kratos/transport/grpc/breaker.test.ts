import assert from 'node:assert/strict';
import { Breaker } from './breaker.js';

describe('Breaker', () => {
  let nowMs: number;
  let seed: number;
  let breaker: Breaker;

  beforeEach(() => {
    nowMs = 0;
    seed = 1;
    breaker = new Breaker(
      () => nowMs,
      () => {
        seed = (seed * 48_271) % 0x7fff_ffff;
        return seed / 0x7fff_ffff;
      },
    );
  });

  /** Makes calls, one each millisecond, and counts those that were sent. */
  function send(count: number, answered: boolean): number {
    let sent = 0;
    for (let i = 0; i < count; i++, nowMs++) {
      if (!breaker.allow()) continue;
      sent++;
      breaker.record(answered);
    }
    return sent;
  }

  it('sends every call while the service answers, and while there are few calls', () => {
    assert.equal(send(1_000, true), 1_000);
    nowMs += 10_000;
    assert.equal(send(20, false), 20);
  });

  it('sends a small share to a service that is down, and every call again soon after it recovers', () => {
    send(1_000, true);
    send(3_000, false);
    const tried = send(1_000, false);
    assert.ok(tried > 50 && tried < 200, `${tried} of 1000`);
    send(12_000, true);
    assert.equal(send(500, true), 500);
  });

  it('tolerates a third of failures', () => {
    let sent = 0;
    for (let i = 0; i < 3_000; i++, nowMs++) {
      if (!breaker.allow()) continue;
      sent++;
      breaker.record(i % 3 !== 0);
    }
    assert.ok(sent > 2_900, `${sent} of 3000`);
  });
});
