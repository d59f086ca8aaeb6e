import {
  skuNoTaken,
  skuNotFound,
  skuVersionConflict,
  spuFull,
  spuNoTaken,
  spuNotFound,
  spuVersionConflict,
  stockInsufficient,
  stockRequestReused,
} from '../../../gen/catalog/v1/errors.js';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { formatUserId } from '../identity.js';
import { limitOf, type Page, type PageRequest, pageOf } from '../page.js';
import { decodePageToken, type TokenPage, tokenPage } from '../page-token.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { SkuContent } from './sku-content.js';
import type { StockLedgerRow, StockRepo } from './stock.js';

export type PublishStatus = 'PUBLISHED' | 'UNPUBLISHED';

/** A standard product unit: what all variants of goods share. */
export interface Spu {
  readonly id: bigint;
  readonly spuNo: string;
  readonly title: string;
  readonly categoryId: bigint;
  readonly brandId: bigint;
  readonly mainImages: readonly string[];
  /** Empty in lists. */
  readonly detailHtml: string;
  readonly publishStatus: PublishStatus;
  readonly sellerId: string | undefined;
  /** Word of the shop; empty: none. */
  readonly goodsType: string;
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A stock keeping unit: one variant of an spu, which is bought and counted. */
export interface Sku {
  readonly id: bigint;
  readonly spuId: bigint;
  readonly skuNo: string;
  readonly skuName: string;
  readonly priceFen: bigint;
  /** 0: none. */
  readonly marketPriceFen: bigint;
  /** Units in stock, including reserved ones. */
  readonly stock: bigint;
  /** Units of the stock that sales and unpaid orders reserve. */
  readonly lockStock: bigint;
  /** Counts the changes of stock and lockStock. */
  readonly stockSeq: bigint;
  /** Specification by name. */
  readonly specs: Readonly<Record<string, string>>;
  /** What each unit opens, by content id. */
  readonly contents: readonly SkuContent[];
  /** Counts changes by operators, including adjustments of the stock, but not orders. */
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A sku with the fields of its spu that an order stores. */
export interface Goods {
  readonly sku: Sku;
  readonly spu: Pick<Spu, 'title' | 'categoryId' | 'mainImages' | 'publishStatus' | 'sellerId' | 'goodsType'>;
}

export type NewSpu = Omit<Spu, 'id' | 'sellerId' | 'goodsType' | 'version' | 'createdAt' | 'updatedAt'> & {
  readonly sellerId?: string | undefined;
  readonly goodsType?: string | undefined;
};
export type NewSku = Pick<Sku, 'spuId' | 'skuNo' | 'skuName' | 'priceFen' | 'marketPriceFen' | 'specs'>;

/** Fields of an spu that can be changed. Absent fields stay as they are. */
export type SpuPatch = Partial<Omit<NewSpu, 'spuNo'>>;
/** Fields of a sku that can be changed. Absent fields stay as they are. */
export type SkuPatch = Partial<Omit<NewSku, 'spuId' | 'skuNo'>>;

export interface SpuFilter {
  readonly publishStatus?: PublishStatus | undefined;
  readonly categoryId?: bigint | undefined;
  /** Part of the title, in upper or lower case. */
  readonly title?: string | undefined;
  /** A sku of it has all of these specifications and a price within the bounds. */
  readonly specs?: Readonly<Record<string, string>> | undefined;
  readonly minPriceFen?: bigint | undefined;
  readonly maxPriceFen?: bigint | undefined;
}

/** An spu with what lists show of its skus. */
export interface ListedSpu extends Spu {
  /** undefined: it has no skus. */
  readonly prices: PriceRange | undefined;
  /** Free units of all its skus together. */
  readonly freeStock: bigint;
}

export interface PriceRange {
  readonly minFen: bigint;
  readonly maxFen: bigint;
}

export interface AdjustStock {
  readonly skuId: bigint;
  readonly delta: bigint;
  readonly version: bigint;
  readonly requestId: string;
  readonly reason: string;
}

export abstract class CatalogRepo {
  /** @returns undefined: another spu has the number */
  abstract insertSpu(spu: NewSpu): Promise<Spu | undefined>;
  /** @returns undefined: there is no such spu, or its version is another one */
  abstract updateSpu(id: bigint, version: bigint, patch: SpuPatch): Promise<Spu | undefined>;
  abstract findSpu(id: bigint): Promise<Spu | undefined>;
  /** By id, ascending. */
  abstract listSpus(page: PageRequest, filter: SpuFilter): Promise<Page<ListedSpu>>;
  /** Locks the spu until `tx` ends, so that no skus are added to it. @returns the number of its skus; undefined: no such spu */
  abstract lockSpu(tx: Transaction, id: bigint): Promise<number | undefined>;
  /** Inserts a sku without stock. @returns undefined: another sku has the number */
  abstract insertSku(tx: Transaction, sku: NewSku): Promise<Sku | undefined>;
  /** @returns undefined: there is no such sku, or its version is another one */
  abstract updateSku(id: bigint, version: bigint, patch: SkuPatch): Promise<Sku | undefined>;
  abstract findSku(id: bigint, tx?: Transaction): Promise<Sku | undefined>;
  /** All skus of an spu, by id. */
  abstract listSkus(spuId: bigint): Promise<readonly Sku[]>;
  abstract findGoods(skuId: bigint): Promise<Goods | undefined>;
  /** The skus that there are, in any order. */
  abstract findAllGoods(skuIds: readonly bigint[]): Promise<readonly Goods[]>;
  /** The skus that there are, locked in the order of their ids until `tx` ends; give the ids in that order. */
  abstract lockGoods(tx: Transaction, skuIds: readonly bigint[]): Promise<readonly Goods[]>;
}

/** Who looks at goods: unpublished ones are shown to operators only. */
export type Viewer = 'public' | 'operator';

/** GetSpu returns all of them. */
const MAX_SKUS_OF_SPU = 100;

export class CatalogUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly catalog: CatalogRepo,
    private readonly stock: StockRepo,
  ) {}

  /** @throws SPU_NO_TAKEN, INVALID_ARGUMENT seller_id */
  async createSpu(spu: NewSpu): Promise<Spu> {
    const created = await this.catalog.insertSpu({ ...spu, sellerId: sellerIdOf(spu.sellerId) });
    if (!created) throw spuNoTaken(`another spu has number ${spu.spuNo}`, { metadata: { spu_no: spu.spuNo } });
    return created;
  }

  /** @throws SPU_NOT_FOUND, SPU_VERSION_CONFLICT, INVALID_ARGUMENT nothing to change */
  async updateSpu(id: bigint, version: bigint, patch: SpuPatch): Promise<Spu> {
    requireChange(patch);
    const { sellerId } = patch;
    const updated = await this.catalog.updateSpu(id, version, {
      ...patch,
      ...(sellerId === undefined ? {} : { sellerId: sellerIdOf(sellerId) }),
    });
    if (updated) return updated;
    const current = await this.findSpu(id);
    throw spuVersionConflict(`spu ${id} is at version ${current.version}, not ${version}`, {
      metadata: { spu_id: String(id), version: String(current.version) },
    });
  }

  /** @throws SPU_NOT_FOUND, for the public also when the spu is not published */
  async getSpu(id: bigint, viewer: Viewer): Promise<{ readonly spu: ListedSpu; readonly skus: readonly Sku[] }> {
    const [spu, skus] = await Promise.all([this.findSpu(id), this.catalog.listSkus(id)]);
    if (viewer === 'public' && spu.publishStatus !== 'PUBLISHED') throw noSpu(id);
    return { spu: { ...spu, ...summaryOf(skus) }, skus };
  }

  async listSpus(page: PageRequest, filter: SpuFilter, viewer: Viewer): Promise<Page<ListedSpu>> {
    if (viewer === 'operator') return this.catalog.listSpus(pageOf(page), filter);
    if (filter.publishStatus === 'UNPUBLISHED') return { items: [], total: 0n };
    return this.catalog.listSpus(pageOf(page), { ...filter, publishStatus: 'PUBLISHED' });
  }

  /** @throws SPU_NOT_FOUND, SKU_NO_TAKEN, SPU_FULL */
  async createSku(sku: NewSku, stock: bigint): Promise<Sku> {
    return this.transactions.run(async (tx) => {
      const siblings = await this.catalog.lockSpu(tx, sku.spuId);
      if (siblings === undefined) throw noSpu(sku.spuId);
      if (siblings >= MAX_SKUS_OF_SPU) {
        throw spuFull(`spu ${sku.spuId} has ${siblings} skus already`, { metadata: { spu_id: String(sku.spuId) } });
      }
      const created = await this.catalog.insertSku(tx, sku);
      if (!created) throw skuNoTaken(`another sku has number ${sku.skuNo}`, { metadata: { sku_no: sku.skuNo } });
      if (stock === 0n) return created;
      const { id: skuId } = created;
      await this.stock.move(tx, [
        { kind: 'ADJUST', skuId, units: stock, stockDelta: stock, lockDelta: 0n, reason: 'initial' },
      ]);
      return this.findSku(skuId, tx);
    });
  }

  /** @throws SKU_NOT_FOUND, SKU_VERSION_CONFLICT, INVALID_ARGUMENT nothing to change */
  async updateSku(id: bigint, version: bigint, patch: SkuPatch): Promise<Sku> {
    requireChange(patch);
    const updated = await this.catalog.updateSku(id, version, patch);
    if (updated) return updated;
    throw otherVersion(id, (await this.findSku(id)).version, version);
  }

  /** @throws SKU_NOT_FOUND */
  getSku(id: bigint): Promise<Sku> {
    return this.findSku(id);
  }

  /** @throws SKU_NOT_FOUND, also when its spu is not published */
  async getPublishedSku(id: bigint): Promise<Sku> {
    const goods = await this.catalog.findGoods(id);
    if (goods?.spu.publishStatus !== 'PUBLISHED') throw noSku(id);
    return goods.sku;
  }

  /**
   * The ledger of a sku, newest first.
   * @param limit 0: 20
   * @throws SKU_NOT_FOUND, INVALID_ARGUMENT page_token
   */
  async listStockMoves(skuId: bigint, limit: number, pageToken: string): Promise<TokenPage<StockLedgerRow>> {
    const list = { list: 'stock moves', skuId };
    const belowId = decodePageToken(list, pageToken);
    const size = limitOf(limit);
    const [, rows] = await Promise.all([this.findSku(skuId), this.stock.listMoves(skuId, belowId, size + 1)]);
    return tokenPage(list, size, rows);
  }

  /**
   * Adds units to the stock, or removes free ones. Repeating a request changes nothing.
   * @throws SKU_NOT_FOUND, SKU_VERSION_CONFLICT, STOCK_INSUFFICIENT, STOCK_REQUEST_REUSED
   */
  async adjustStock({ skuId, delta, version, requestId, reason }: AdjustStock): Promise<Sku> {
    return this.transactions.run(
      async (tx) => {
        const level = await this.stock.lock(tx, skuId);
        if (!level) throw noSku(skuId);
        const before = await this.stock.findAdjustment(tx, skuId, requestId);
        if (before === undefined) {
          if (level.version !== version) throw otherVersion(skuId, level.version, version);
          const free = level.stock - level.lockStock;
          if (free + delta < 0n) {
            throw stockInsufficient(`sku ${skuId} has ${free} free units`, {
              metadata: { sku_id: String(skuId), free: String(free) },
            });
          }
          const units = delta < 0n ? -delta : delta;
          await this.stock.move(tx, [
            { kind: 'ADJUST', skuId, requestId, units, stockDelta: delta, lockDelta: 0n, reason },
          ]);
        } else if (before !== delta) {
          throw stockRequestReused(`request ${requestId} adjusted sku ${skuId} by ${before}`, {
            metadata: { sku_id: String(skuId), request_id: requestId },
          });
        }
        return this.findSku(skuId, tx);
      },
      { idempotent: true },
    );
  }

  private async findSpu(id: bigint): Promise<Spu> {
    const spu = await this.catalog.findSpu(id);
    if (!spu) throw noSpu(id);
    return spu;
  }

  private async findSku(id: bigint, tx?: Transaction): Promise<Sku> {
    const sku = await this.catalog.findSku(id, tx);
    if (!sku) throw noSku(id);
    return sku;
  }
}

/** What lists show of the skus of an spu. */
export function summaryOf(skus: readonly Sku[]): Pick<ListedSpu, 'prices' | 'freeStock'> {
  const prices = skus.map((s) => s.priceFen).sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const [minFen, maxFen] = [prices[0], prices.at(-1)];
  return {
    prices: minFen === undefined || maxFen === undefined ? undefined : { minFen, maxFen },
    freeStock: skus.reduce((units, s) => units + s.stock - s.lockStock, 0n),
  };
}

/** @throws INVALID_ARGUMENT seller_id */
function sellerIdOf(id: string | undefined): string | undefined {
  return id === undefined ? undefined : formatUserId(id, 'seller_id');
}

function requireChange(patch: SpuPatch | SkuPatch): void {
  if (Object.keys(patch).length === 0) throw invalidArgument('no field to change');
}

function noSpu(id: bigint) {
  return spuNotFound(`no spu ${id}`, { metadata: { spu_id: String(id) } });
}

function noSku(id: bigint) {
  return skuNotFound(`no sku ${id}`, { metadata: { sku_id: String(id) } });
}

function otherVersion(id: bigint, current: bigint, wanted: bigint) {
  return skuVersionConflict(`sku ${id} is at version ${current}, not ${wanted}`, {
    metadata: { sku_id: String(id), version: String(current) },
  });
}
