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
import { type Page, type PageRequest, pageOf } from '../page.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { StockRepo } from './stock.js';

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
  /** Counts changes by operators, including adjustments of the stock, but not orders. */
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

/** A sku with the fields of its spu that an order stores. */
export interface Goods {
  readonly sku: Sku;
  readonly spu: Pick<Spu, 'title' | 'categoryId' | 'mainImages' | 'publishStatus' | 'sellerId'>;
}

export type NewSpu = Omit<Spu, 'id' | 'sellerId' | 'version' | 'createdAt' | 'updatedAt'> & {
  readonly sellerId?: string | undefined;
};
export type NewSku = Pick<Sku, 'spuId' | 'skuNo' | 'skuName' | 'priceFen' | 'marketPriceFen' | 'specs'>;

/** Fields of an spu that can be changed. Absent fields stay as they are. */
export type SpuPatch = Partial<Omit<NewSpu, 'spuNo'>>;
/** Fields of a sku that can be changed. Absent fields stay as they are. */
export type SkuPatch = Partial<Omit<NewSku, 'spuId' | 'skuNo'>>;

export interface SpuFilter {
  readonly publishStatus?: PublishStatus | undefined;
  readonly categoryId?: bigint | undefined;
  /** A specification of at least one of its skus. */
  readonly spec?: { readonly name: string; readonly value: string } | undefined;
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
  abstract listSpus(page: PageRequest, filter: SpuFilter): Promise<Page<Spu>>;
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
  /** The skus that there are, locked in the order of their ids until `tx` ends; give the ids in that order. */
  abstract lockGoods(tx: Transaction, skuIds: readonly bigint[]): Promise<readonly Goods[]>;
}

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

  /** @throws SPU_NOT_FOUND */
  async getSpu(id: bigint): Promise<{ readonly spu: Spu; readonly skus: readonly Sku[] }> {
    const [spu, skus] = await Promise.all([this.findSpu(id), this.catalog.listSkus(id)]);
    return { spu, skus };
  }

  listSpus(page: PageRequest, filter: SpuFilter): Promise<Page<Spu>> {
    return this.catalog.listSpus(pageOf(page), filter);
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
