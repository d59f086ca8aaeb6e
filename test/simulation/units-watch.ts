import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { segmentsOf } from '../../internal/biz/seckill/segment.js';
import type { MemoryRedis } from '../support/memory/redis.js';

/** A purchase under way. */
export interface WatchedPurchase {
  readonly sale: Sale;
  /** Units that the sale had when it had the fewest since the purchase began. */
  fewest: bigint;
}

/** Looks at the units of sales after each command, so that what buyers are told of them can be judged. */
export class UnitsWatch {
  private readonly purchases = new Set<WatchedPurchase>();

  constructor(private readonly redis: MemoryRedis) {}

  begin(sale: Sale): WatchedPurchase {
    const purchase = { sale, fewest: this.unitsOf(sale) };
    this.purchases.add(purchase);
    return purchase;
  }

  end(purchase: WatchedPurchase): void {
    this.purchases.delete(purchase);
  }

  look(): void {
    for (const purchase of this.purchases) {
      const units = this.unitsOf(purchase.sale);
      if (units < purchase.fewest) purchase.fewest = units;
    }
  }

  /** In segments and on their way between them; 0 where not all of the sale is loaded. */
  private unitsOf({ itemId, segments }: Sale): bigint {
    const servers = segmentsOf(segments).map((k) => this.redis.at(k));
    const loaded = servers.flatMap((server) => server.inspect(itemId).loaded ?? []);
    const [first] = loaded;
    if (!first || loaded.length < segments || loaded.some(({ epoch }) => epoch !== first.epoch)) return 0n;
    const stocks = loaded.map(({ stock }) => (stock > 0n ? stock : 0n));
    return [...stocks, ...this.redis.movesUnderWay(itemId, first.epoch).map(({ units }) => units)].reduce(
      (a, b) => a + b,
      0n,
    );
  }
}
