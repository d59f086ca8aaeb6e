import assert from 'node:assert/strict';
import type { StockGate } from '../../internal/biz/catalog/stock-gate.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { RedisStockGate } from '../../internal/data/redis/stock-gate.js';
import { eventually } from '../support/wait.js';
import { freshId } from './backend.js';

export interface StockGateBackend {
  readonly gate: StockGate;
  close(): void;
}

export async function redisStockGateBackend(place: RedisPlace): Promise<StockGateBackend> {
  const server = new RedisServer({ ...place, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  await server.ready(5_000);
  return { gate: new RedisStockGate(server), close: () => server.close() };
}

export function stockGateContract(name: string, open: () => Promise<StockGateBackend>): void {
  describe(`StockGate ${name}`, () => {
    let backend: StockGateBackend;
    before(async () => {
      backend = await open();
    });
    after(() => backend?.close());

    const publish = (skuId: bigint, free: bigint, seq: bigint) => backend.gate.publish([{ skuId, free, seq }]);
    const read = async (skuId: bigint) => (await backend.gate.read([skuId])).get(skuId);

    it('has the copies of many skus, and leaves out those that were not published', async () => {
      const skus = Array.from({ length: 20 }, () => freshId());
      const unknown = freshId();
      backend.gate.publish(skus.map((skuId, i) => ({ skuId, free: BigInt(i), seq: 1n })));
      const expected = new Map(skus.map((skuId, i) => [skuId, BigInt(i)]));
      await eventually('all are there', async () => {
        return (await backend.gate.read(skus)).size === skus.length;
      });
      assert.deepEqual(await backend.gate.read([...skus, unknown]), expected);
    });

    it('keeps the newer of two copies, whichever comes first', async () => {
      const skuId = freshId();
      // Beyond what a double holds, where a comparison of numbers would lose digits.
      const seq = 2n ** 60n;
      publish(skuId, 5n, seq + 1n);
      await eventually('the first copy is there', async () => (await read(skuId)) === 5n);
      publish(skuId, 9n, seq);
      publish(skuId, 4n, seq + 2n);
      await eventually('the newest copy is there', async () => (await read(skuId)) === 4n);
    });
  });
}
