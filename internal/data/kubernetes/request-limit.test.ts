import assert from 'node:assert/strict';
import { RequestLimit } from './request-limit.js';

/** A timer of Node may fire this much too early. */
const EARLY_MS = 2;

describe('The limit of requests to the API server', () => {
  const never = new AbortController().signal;

  it('lets a burst begin at once, and the others at the rate, in their order', async () => {
    const limit = new RequestLimit({ perSecond: 100, burst: 5 });
    const startedMs = performance.now();
    const begun: { readonly i: number; readonly ms: number }[] = [];
    await Promise.all(
      Array.from({ length: 15 }, async (_, i) => {
        await limit.wait(never);
        begun.push({ i, ms: performance.now() - startedMs });
      }),
    );
    assert.deepEqual(
      begun.map(({ i }) => i),
      [...begun.keys()],
    );
    for (const { i, ms } of begun) assert.ok(ms >= (i + 1 - 5) * 10 - EARLY_MS, `request ${i} began after ${ms} ms`);
  });

  it('lets the next burst begin only after a pause', async () => {
    const limit = new RequestLimit({ perSecond: 50, burst: 2 });
    const startedMs = performance.now();
    for (let i = 0; i < 5; i++) await limit.wait(never);
    assert.ok(performance.now() - startedMs >= 3 * 20 - EARLY_MS);
  });

  it('does not delay anything at a rate of 0', async () => {
    const limit = new RequestLimit({ perSecond: 0, burst: 1 });
    // An aborted signal would end a wait.
    for (let i = 0; i < 1_000; i++) await limit.wait(AbortSignal.abort());
  });

  it('ends the waits of a client that closes', async () => {
    const limit = new RequestLimit({ perSecond: 0.01, burst: 1 });
    const closing = new AbortController();
    await limit.wait(closing.signal);
    const waits = [limit.wait(closing.signal), limit.wait(closing.signal)];
    closing.abort();
    for (const wait of waits) await assert.rejects(wait, { name: 'AbortError' });
  });
});
