import assert from 'node:assert/strict';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { RedisPurchaseConsumer } from './purchase-consumer.js';
import type { RedisServer } from './redis.js';
import { KeySpace } from './seckill-keys.js';

const ITEM = 1001n;
const OTHER = 1002n;
const TIME_LIMIT_MS = 20;
const COUNT = 10;

type Fault = 'hangs' | 'refuses';

/** A cluster in which each stream has a server of its own. */
class Cluster {
  readonly isCluster = true;
  readonly keys = new KeySpace('', true);
  /** Keys whose server is away. */
  readonly away = new Map<string, Fault>();
  /** Servers that are away, by port. */
  readonly lost = new Map<number, Fault>();
  readonly sent: string[] = [];
  private readonly streams = new Map<string, string[]>();

  readonly commands = {
    xgroup: (_: string, key: string) => this.ask('xgroup', key, () => 'OK'),
    exists: (key: string) => this.ask('exists', key, () => (this.streams.has(key) ? 1 : 0)),
    xlen: (key: string) => this.ask('xlen', key, () => this.streams.get(key)?.length ?? 0),
    xreadgroup: (...args: readonly unknown[]) => {
      const key = String(args.at(-2));
      return this.ask(`xreadgroup ${args.at(-1)}`, key, () => {
        if (args.at(-1) !== '>') return [[key, []]];
        return [[key, (this.streams.get(key) ?? []).map((id) => [id, ['uid', '1']])]];
      });
    },
    xautoclaim: (key: string) => this.ask('xautoclaim', key, () => ['0-0', []]),
    evalsha: (_: string, keyCount: number, ...keys: readonly string[]) =>
      this.ask('evalsha', keys[Math.min(3, keyCount - 1)]!, () => []),
  };

  add(itemId: bigint, segment: number, ...ids: string[]): string {
    const key = this.keys.sale(itemId, segment).stream;
    this.streams.set(key, ids);
    return key;
  }

  masters() {
    return [1, 2].map((port) => ({
      options: { host: 'h', port },
      scan: () => this.answer(this.lost.get(port), () => ['0', port === 1 ? [...this.streams.keys()] : []]),
    }));
  }

  consumer(): RedisPurchaseConsumer {
    return new RedisPurchaseConsumer(this as unknown as RedisServer, async () => 'a');
  }

  countSent(command: string, key: string): number {
    return this.sent.filter((s) => s === `${command} ${key}`).length;
  }

  private ask<T>(command: string, key: string, reply: () => T): Promise<T> {
    this.sent.push(`${command} ${key}`);
    return this.answer(this.away.get(key), reply);
  }

  private async answer<T>(fault: Fault | undefined, reply: () => T): Promise<T> {
    if (fault === 'refuses') throw new Error('connect ECONNREFUSED');
    if (fault === undefined) return reply();
    await new Promise((resolve) => setTimeout(resolve, TIME_LIMIT_MS));
    throw new Error('Command timed out');
  }
}

describe('A purchase consumer on a cluster', () => {
  let cluster: Cluster;
  let lost: string;
  let consumer: RedisPurchaseConsumer;

  beforeEach(async () => {
    cluster = new Cluster();
    cluster.add(ITEM, 0, '1-0');
    lost = cluster.add(ITEM, 1, '2-0');
    cluster.add(OTHER, 0, '3-0');
    consumer = cluster.consumer();
    assert.deepEqual(await consumer.discover([]), [ITEM, OTHER]);
    assert.equal((await consumer.join([ITEM, OTHER])).size, 0);
  });

  const read = (from: 'new' | 'pending' = 'new') =>
    consumer.read(
      [ITEM, OTHER].map((itemId) => ({ itemId, from })),
      COUNT,
      1,
    );
  const idsOf = ({ deliveries }: Awaited<ReturnType<typeof read>>) =>
    [...deliveries.values()].flat().map((d) => d.streamId);

  for (const fault of ['hangs', 'refuses'] as const) {
    it(`reads the streams of the other servers while one ${fault}, and waits for it once`, async () => {
      cluster.away.set(lost, fault);
      for (let round = 0; round < 3; round++) {
        const result = await read();
        assert.deepEqual(idsOf(result), ['1-0', '3-0']);
        assert.deepEqual([...result.away.keys()], [ITEM]);
        assert.deepEqual(result.unreadable, new Map());
      }
      assert.equal(cluster.countSent('xreadgroup >', lost), 1);
      assert.equal(consumer.reaches(ITEM, '2-0-1'), false);
      assert.equal(consumer.reaches(ITEM, '1-0'), true);
    });
  }

  it('tells once that a stream is back, and reads it again', async () => {
    cluster.away.set(lost, 'refuses');
    await read();
    cluster.away.delete(lost);
    let back: readonly bigint[] = [];
    while (back.length === 0) ({ back } = await read());
    assert.deepEqual(back, [ITEM]);
    const result = await read();
    assert.deepEqual(idsOf(result), ['1-0', '2-0-1', '3-0']);
    assert.deepEqual([result.away.size, result.back], [0, []]);
  });

  it('tries a stream that is away with pauses, however often the others are read', async () => {
    cluster.away.set(lost, 'refuses');
    for (let round = 0; round < 200; round++) await read();
    assert.ok(cluster.countSent('xlen', lost) < 10, `${cluster.countSent('xlen', lost)} tries`);
  });

  it('reads what is pending at the other servers while one hangs', async () => {
    cluster.away.set(lost, 'hangs');
    const result = await read('pending');
    assert.deepEqual([...result.deliveries.keys()], [ITEM, OTHER]);
    assert.deepEqual([...result.away.keys()], [ITEM]);
  });

  it('joins, claims and reports at the other servers while one is away', async () => {
    await read();
    cluster.away.set(lost, 'refuses');
    cluster.away.set(cluster.keys.consumers(ITEM, 1), 'refuses');
    assert.equal((await consumer.join([ITEM, OTHER])).size, 0);
    assert.deepEqual(await consumer.claim(ITEM, 1, COUNT), []);
    await consumer.report(1);
    assert.equal(cluster.countSent('evalsha', cluster.keys.consumers(OTHER)), 1);
  });

  it('finishes the entries of the other segments while one is away, and names those that are left', async () => {
    cluster.away.set(lost, 'hangs');
    const entries = ['1-0', '2-0-1', '4-0'].map((streamId) => ({ streamId, uid: '1', correction: undefined }));
    assert.deepEqual([...(await consumer.finish(ITEM, entries))], ['2-0-1']);
    await consumer.finish(ITEM, entries);
    assert.equal(cluster.countSent('evalsha', lost), 1, 'no command is sent to a server that is known to be away');
  });

  it('finds the streams of the other servers while one hangs, and fails while none answers', async () => {
    cluster.lost.set(2, 'hangs');
    cluster.add(1003n, 0);
    assert.deepEqual(await consumer.discover([]), [ITEM, OTHER, 1003n]);
    cluster.lost.set(1, 'refuses');
    await assert.rejects(consumer.discover([]), isUnavailable);
    cluster.lost.clear();
    await assert.rejects(consumer.discover([]), isUnavailable, 'it is not waited for');
    // The scans that were begun by then.
    await new Promise((resolve) => setTimeout(resolve, 2 * TIME_LIMIT_MS));
    assert.deepEqual(await consumer.discover([]), [ITEM, OTHER, 1003n]);
  });
});
