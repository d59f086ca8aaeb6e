import type { FreeUnits } from '../../biz/catalog/stock.js';
import { StockGate } from '../../biz/catalog/stock-gate.js';
import { STOCK_GATE } from './lua-script.js';
import type { RedisServer } from './redis.js';

/** How long a copy is believed: longer than a hot SKU's transactions take, and short enough to heal while a buyer waits. */
const TTL_MS = 2_000;

/** Hash `stock:sku:<sku_id>`: free, seq. One key per SKU, so that Redis Cluster can hold them anywhere. */
export class RedisStockGate extends StockGate {
  constructor(private readonly redis: RedisServer) {
    super();
  }

  override async read(skuIds: readonly bigint[]): Promise<ReadonlyMap<bigint, bigint>> {
    const found = new Map<bigint, bigint>();
    await Promise.all(
      skuIds.map(async (skuId) => {
        // Without Redis, and with a key of another type, PostgreSQL decides alone.
        const free = await this.redis.commands.hget(this.key(skuId), 'free').catch(() => null);
        if (free !== null && /^\d{1,19}$/.test(free)) found.set(skuId, BigInt(free));
      }),
    );
    return found;
  }

  override publish(units: readonly FreeUnits[]): void {
    for (const { skuId, free, seq } of units) {
      const args = [String(free), String(seq), String(TTL_MS)];
      // A copy that does not arrive leaves an older one, which expires.
      STOCK_GATE.run(this.redis.commands, { gate: this.key(skuId) }, args).catch(() => undefined);
    }
  }

  private key(skuId: bigint): string {
    return `${this.redis.keys.prefix}stock:sku:${skuId}`;
  }
}
