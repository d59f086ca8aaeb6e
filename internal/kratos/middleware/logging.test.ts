import assert from 'node:assert/strict';
import type { DescMethod } from '@bufbuild/protobuf';
import { internal, unavailable } from '../errors/reasons.js';
import { type LogFields, Logger } from '../log/logger.js';
import type { Call } from '../transport/call.js';
import { logging } from './logging.js';

class Lines extends Logger {
  override readonly debugs = false;
  readonly written: [string, LogFields][] = [];
  private report: () => void = () => {};
  readonly reported = new Promise<void>((resolve) => {
    this.report = resolve;
  });

  override warn(message: string, fields: LogFields = {}): void {
    this.written.push([message, fields]);
    if (message === 'more calls failed') this.report();
  }
  override error(message: string, fields: LogFields = {}): void {
    this.warn(message, fields);
  }
  override debug(): void {}
  override info(): void {}
  override child(): Logger {
    return this;
  }
}

describe('logging', () => {
  const call = (operation = '/shop.v1.Shop/Buy') =>
    ({ operation, transport: 'grpc', peer: '', identity: {}, metadata: () => undefined }) as unknown as Call;

  it('writes one line for the calls of a batch that failed, and how many there were', async () => {
    const lines = new Lines();
    const observe = logging(lines, 20).of({} as DescMethod)!;
    const cause = new Error('Connection is closed.');
    for (let i = 0; i < 128; i++) observe(call())(unavailable('Redis does not answer', { cause }));
    assert.deepEqual(
      lines.written.map(([message, { err }]) => [message, err]),
      [['call failed', cause]],
    );
    await lines.reported;
    assert.deepEqual(lines.written[1], [
      'more calls failed',
      { operation: '/shop.v1.Shop/Buy', reason: 'UNAVAILABLE', calls: 127, windowMs: 20 },
    ]);
  });

  it('writes five lines a second for each operation and reason', async () => {
    const lines = new Lines();
    const observe = logging(lines, 60_000).of({} as DescMethod)!;
    for (let i = 0; i < 50; i++) {
      observe(call())(unavailable('away', { cause: new Error(String(i)) }));
      observe(call('/shop.v1.Shop/Look'))(internal('internal error', { cause: new Error(String(i)) }));
    }
    assert.equal(lines.written.length, 10);
  });
});
