import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Event } from '../../gen/instance/v1/event.js';
import { faultOf, type InstanceLogUsecase, type InstanceMessage } from '../biz/instance/instance-log.js';
import { InstanceEventService } from './instance-event.js';

const GOOD: Event = {
  eventType: 'INSTANCE_CREATED',
  instanceId: 7n,
  userId: '123',
  name: 'inst-7',
  spec: { cpus: 1, memoryMb: 1024, gpu: 0, image: 'debian-12' },
  timestamp: new Date(0),
  productId: 1001n,
  source: 'SECKILL',
  sourceId: '1-0',
  orderId: 0n,
  reason: '',
};

describe('InstanceEventService', () => {
  const seen: InstanceMessage[] = [];
  const service = new InstanceEventService({
    record: async (_queue: string, messages: readonly InstanceMessage[]) => void seen.push(...messages),
  } as unknown as InstanceLogUsecase);

  async function read(payload: Uint8Array): Promise<InstanceMessage['order'] | 'rejected'> {
    seen.length = 0;
    const [verdict] = await service.handle('q', [{ payload, headers: {}, redelivered: false }]);
    return verdict === 'reject' ? 'rejected' : seen[0]!.order;
  }

  it('reads what the product domain writes, whichever way it writes the user', async () => {
    assert.deepEqual(await read(Event.encode(GOOD).finish()), {
      instanceId: 7n,
      productId: 1001n,
      userId: '00000000-0000-8000-8000-00000000007b',
      source: 'SECKILL',
      sourceId: '1-0',
      orderId: undefined,
      name: 'inst-7',
      size: { cpus: 1, memoryMb: 1024, gpu: 0, image: 'debian-12' },
    });
  });

  it('passes over fields that a newer sender adds', async () => {
    const newer = Buffer.concat([Event.encode(GOOD).finish(), Buffer.from([0xfa, 0x7f, 1, 65])]);
    const order = await read(newer);
    assert.ok(typeof order === 'object' && 'instanceId' in order);
  });

  it('refuses text that is not UTF-8, where a lenient reader would store replacement characters', async () => {
    const bytes = Buffer.from(Event.encode(GOOD).finish());
    bytes[bytes.indexOf('debian')] = 0xff;
    const order = await read(bytes);
    assert.ok(typeof order === 'object' && 'fault' in order);
    assert.match(order.fault, /^not an instance\.v1\.Event/);
  });

  it('keeps a byte order mark that begins a text', async () => {
    const order = await read(Event.encode({ ...GOOD, sourceId: '\ufeff1-0' }).finish());
    assert.ok(typeof order === 'object' && 'sourceId' in order);
    assert.equal(order.sourceId, '\ufeff1-0');
  });

  it('throws on nothing: whatever comes is an order, or has a reason', async () => {
    const good = Event.encode(GOOD).finish();
    const mutated = fc
      .array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 })
      .map((changes) => {
        const bytes = Uint8Array.from(good);
        for (const [at, byte] of changes) bytes[at] = byte;
        return bytes;
      });
    const cut = fc.nat(good.length).map((n) => good.subarray(0, n));
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 200 }), mutated, cut), async (bytes) => {
        const order = await read(bytes);
        assert.ok(order !== 'rejected');
        if ('fault' in order) assert.ok(order.fault.length > 0);
        else if (!('removal' in order)) faultOf(order);
      }),
      { numRuns: 2_000 },
    );
  });

  it('reads the removal of an instance', async () => {
    const removed = Event.fromPartial({ eventType: 'INSTANCE_REMOVED', instanceId: 7n, reason: 'refund 9' });
    assert.deepEqual(await read(Event.encode(removed).finish()), { removal: { instanceId: 7n, reason: 'refund 9' } });
  });

  it('leaves what is too large to the broker', async () => {
    assert.equal(await read(new Uint8Array(64 * 1024 + 1)), 'rejected');
  });
});
