import { soldQuantity } from '../../../internal/biz/order/order-state.js';
import type { Page, PageRequest } from '../../../internal/biz/page.js';
import type { Sale, UserOfSale } from '../../../internal/biz/seckill/sale-state.js';
import {
  type ChangedLimits,
  type ListedVipLimit,
  type VipLimit,
  VipLimitRepo,
} from '../../../internal/biz/seckill/vip-limit.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOrderRepo } from './order.js';
import type { MemorySaleUnitsRepo } from './sale-units.js';
import { type MemoryStore, MemoryTable } from './store.js';

interface VipRow extends UserOfSale, VipLimit {
  readonly settingsVersion: bigint;
}

export class MemoryVipLimitRepo extends VipLimitRepo {
  readonly table: MemoryTable<VipRow>;

  constructor(
    private readonly store: MemoryStore,
    private readonly saleUnits: MemorySaleUnitsRepo,
    private readonly orders: MemoryOrderRepo,
  ) {
    super();
    this.table = new MemoryTable<VipRow>(store, 'vip_limits', keyOf);
  }

  override find(user: UserOfSale, tx?: Transaction): Promise<VipLimit | undefined> {
    return this.store.statement('vipLimit.find', tx, async () => {
      const found = this.table.find(keyOf(user), tx);
      return found && { units: found.units, version: found.version };
    });
  }

  override set(tx: Transaction, user: UserOfSale, units: number, version: bigint): Promise<VipLimit | undefined> {
    return this.store.statement('vipLimit.set', tx, async () => {
      const there = this.table.find(keyOf(user), tx);
      if ((there?.version ?? 0n) !== version) return undefined;
      const sale = await this.saleUnits.sales.update(tx, String(user.saleId), (s) => ({
        ...s,
        settingsVersion: s.settingsVersion + 1n,
      }));
      if (!sale) throw new Error(`no sale ${user.saleId}`);
      const row = { ...user, units, version: version + 1n, settingsVersion: sale.settingsVersion };
      if (there) await this.table.update(tx, keyOf(user), () => row);
      else await this.table.insert(tx, row);
      return { units, version: row.version };
    });
  }

  override list(saleId: bigint, { offset, limit }: PageRequest): Promise<Page<ListedVipLimit>> {
    return this.store.statement('vipLimit.list', undefined, async () => {
      const found = this.ofSale(saleId).sort((a, b) => (a.userId < b.userId ? -1 : 1));
      const orders = this.orders.orders.rows().filter((o) => o.saleId === saleId);
      const items = found.slice(offset, offset + limit).map(({ userId, units, version }) => {
        const own = orders.filter((o) => o.userId === userId);
        return { userId, units, version, taken: own.reduce((sum, o) => sum + soldQuantity(o), 0) };
      });
      return { items, total: BigInt(found.length) };
    });
  }

  override findChanged(sale: Sale, afterVersion: bigint, limit: number): Promise<ChangedLimits> {
    return this.store.statement('vipLimit.findChanged', undefined, async () => {
      const changed = this.ofSale(sale.id)
        .filter((v) => v.settingsVersion > afterVersion && v.settingsVersion <= sale.settingsVersion)
        .sort((a, b) => Number(a.settingsVersion - b.settingsVersion))
        .slice(0, limit);
      return {
        vipLimits: changed.map(({ userId, units }) => ({ userId, units })),
        upTo: changed.length < limit ? sale.settingsVersion : changed.at(-1)!.settingsVersion,
      };
    });
  }

  private ofSale(saleId: bigint): VipRow[] {
    return this.table.rows().filter((v) => v.saleId === saleId);
  }
}

function keyOf({ saleId, userId }: UserOfSale): string {
  return `${saleId} ${userId}`;
}
