import {
  CatalogRepo,
  type Goods,
  type ListedSpu,
  type NewSku,
  type NewSpu,
  type Sku,
  type SkuPatch,
  type Spu,
  type SpuFilter,
  type SpuPatch,
} from '../../biz/catalog/catalog.js';
import type { Page, PageRequest } from '../../biz/page.js';
import type { Transaction } from '../../biz/transaction.js';
import { int8s } from './column.js';
import { type SkuContentJson, skuContentOf } from './content.js';
import type { Postgres, Statement } from './postgres.js';
import { PUBLISH_STATUS, publishStatusOf } from './status.js';

const LISTED_COLUMNS = `id, spu_no, title, category_id, brand_id, main_images, publish_status, seller_id, goods_type, version, created_at, updated_at`;
const SPU_COLUMNS = `${LISTED_COLUMNS}, detail_html`;
const SKU_COLUMNS = `id, spu_id, sku_no, sku_name, price, market_price, stock, lock_stock, stock_seq, specs, version, created_at, updated_at,
  (SELECT jsonb_agg(jsonb_build_object('content_id', content_id::text, 'days', access_days) ORDER BY content_id)
    FROM sku_contents WHERE sku_id = sku.id) AS contents`;

const INSERT_SPU: Statement = {
  name: 'spu_insert',
  text: `INSERT INTO spu (spu_no, title, category_id, brand_id, main_images, detail_html, publish_status, seller_id, goods_type)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (spu_no) DO NOTHING RETURNING ${SPU_COLUMNS}`,
};

const UPDATE_SPU: Statement = {
  name: 'spu_update',
  text: `UPDATE spu SET title = coalesce($3, title), category_id = coalesce($4, category_id),
      brand_id = coalesce($5, brand_id), main_images = coalesce($6, main_images), detail_html = coalesce($7, detail_html),
      publish_status = coalesce($8, publish_status), seller_id = coalesce($9, seller_id),
      goods_type = coalesce($10, goods_type), version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 RETURNING ${SPU_COLUMNS}`,
};

const FIND_SPU: Statement = { name: 'spu_find', text: `SELECT ${SPU_COLUMNS} FROM spu WHERE id = $1` };

// The same sku has the specifications and a price within the bounds. Titles are searched row by row: a shop has few spus,
// and an index of parts of words would need an extension of PostgreSQL.
const SPUS_WHERE = `($1::smallint IS NULL OR publish_status = $1) AND ($2::bigint IS NULL OR category_id = $2)
  AND ($3::text IS NULL OR strpos(lower(title), lower($3)) > 0)
  AND ($4::jsonb IS NULL OR id IN (
    SELECT spu_id FROM sku WHERE specs @> $4 AND price >= coalesce($5::bigint, 0) AND ($6::bigint IS NULL OR price <= $6)))`;

const LIST_SPUS: Statement = {
  name: 'spu_list',
  text: `SELECT p.*, k.min_price, k.max_price, k.free
    FROM (SELECT ${LISTED_COLUMNS} FROM spu WHERE ${SPUS_WHERE} ORDER BY id OFFSET $7 LIMIT $8) p
    CROSS JOIN LATERAL (
      SELECT min(price) AS min_price, max(price) AS max_price, coalesce(sum(stock - lock_stock), 0)::bigint AS free
      FROM sku WHERE spu_id = p.id) k
    ORDER BY p.id`,
};

const COUNT_SPUS: Statement = { name: 'spu_count', text: `SELECT count(*) AS total FROM spu WHERE ${SPUS_WHERE}` };

const LOCK_SPU: Statement = { name: 'spu_lock', text: 'SELECT id FROM spu WHERE id = $1 FOR NO KEY UPDATE' };

const COUNT_SKUS: Statement = {
  name: 'sku_count',
  text: 'SELECT count(*)::int AS total FROM sku WHERE spu_id = $1',
};

const INSERT_SKU: Statement = {
  name: 'sku_insert',
  text: `INSERT INTO sku (spu_id, sku_no, sku_name, price, market_price, specs)
    VALUES ($1, $2, $3, $4, nullif($5::bigint, 0), $6) ON CONFLICT (sku_no) DO NOTHING RETURNING ${SKU_COLUMNS}`,
};

const UPDATE_SKU: Statement = {
  name: 'sku_update',
  text: `UPDATE sku SET sku_name = coalesce($3, sku_name), price = coalesce($4, price),
      market_price = nullif(coalesce($5::bigint, market_price), 0), specs = coalesce($6, specs),
      version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 RETURNING ${SKU_COLUMNS}`,
};

const FIND_SKU: Statement = { name: 'sku_find', text: `SELECT ${SKU_COLUMNS} FROM sku WHERE id = $1` };

const LIST_SKUS: Statement = {
  name: 'sku_list',
  text: `SELECT ${SKU_COLUMNS} FROM sku WHERE spu_id = $1 ORDER BY id`,
};

const FIND_GOODS: Statement = {
  name: 'goods_find',
  text: `SELECT k.*, p.title, p.category_id, p.main_images, p.publish_status, p.seller_id, p.goods_type
    FROM (SELECT ${SKU_COLUMNS} FROM sku WHERE id = $1) k JOIN spu p ON p.id = k.spu_id`,
};

const FIND_ALL_GOODS: Statement = {
  name: 'goods_find_all',
  text: `SELECT k.*, p.title, p.category_id, p.main_images, p.publish_status, p.seller_id, p.goods_type
    FROM (SELECT ${SKU_COLUMNS} FROM sku WHERE id = ANY ($1::bigint[])) k JOIN spu p ON p.id = k.spu_id`,
};

// NO KEY, so that orders that refer to the sku can be written meanwhile. The spu is not locked and may change.
const LOCK_GOODS: Statement = {
  name: 'goods_lock',
  text: `WITH k AS MATERIALIZED (
      SELECT ${SKU_COLUMNS} FROM sku WHERE id = ANY ($1::bigint[]) ORDER BY id FOR NO KEY UPDATE)
    SELECT k.*, p.title, p.category_id, p.main_images, p.publish_status, p.seller_id, p.goods_type FROM k JOIN spu p ON p.id = k.spu_id`,
};

export class PgCatalogRepo extends CatalogRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insertSpu(spu: NewSpu): Promise<Spu | undefined> {
    const { rows } = await this.db.query<SpuRow>(INSERT_SPU, [
      spu.spuNo,
      spu.title,
      spu.categoryId,
      spu.brandId,
      JSON.stringify(spu.mainImages),
      spu.detailHtml,
      PUBLISH_STATUS[spu.publishStatus],
      spu.sellerId ?? null,
      spu.goodsType ?? '',
    ]);
    return rows[0] && spuOf(rows[0]);
  }

  override async updateSpu(id: bigint, version: bigint, patch: SpuPatch): Promise<Spu | undefined> {
    const { rows } = await this.db.query<SpuRow>(UPDATE_SPU, [
      id,
      version,
      patch.title ?? null,
      patch.categoryId ?? null,
      patch.brandId ?? null,
      patch.mainImages === undefined ? null : JSON.stringify(patch.mainImages),
      patch.detailHtml ?? null,
      patch.publishStatus === undefined ? null : PUBLISH_STATUS[patch.publishStatus],
      patch.sellerId ?? null,
      patch.goodsType ?? null,
    ]);
    return rows[0] && spuOf(rows[0]);
  }

  override async findSpu(id: bigint): Promise<Spu | undefined> {
    const { rows } = await this.db.query<SpuRow>(FIND_SPU, [id]);
    return rows[0] && spuOf(rows[0]);
  }

  override async listSpus(page: PageRequest, filter: SpuFilter): Promise<Page<ListedSpu>> {
    const { publishStatus, categoryId, title, specs, minPriceFen, maxPriceFen } = filter;
    const ofSkus = specs !== undefined || minPriceFen !== undefined || maxPriceFen !== undefined;
    const where = [
      publishStatus === undefined ? null : PUBLISH_STATUS[publishStatus],
      categoryId ?? null,
      title ?? null,
      ofSkus ? JSON.stringify(specs ?? {}) : null,
      minPriceFen ?? null,
      maxPriceFen ?? null,
    ];
    const [list, count] = await Promise.all([
      this.db.query<ListedSpuRow>(LIST_SPUS, [...where, page.offset, page.limit]),
      this.db.query<{ total: bigint }>(COUNT_SPUS, where),
    ]);
    return { items: list.rows.map(listedSpuOf), total: count.rows[0]?.total ?? 0n };
  }

  override async lockSpu(tx: Transaction, id: bigint): Promise<number | undefined> {
    // Two statements, because one alone would count what it saw before it waited for the lock.
    const { rowCount } = await this.db.query(LOCK_SPU, [id], tx);
    if (rowCount === 0) return undefined;
    return (await this.db.query<{ total: number }>(COUNT_SKUS, [id], tx)).rows[0]?.total ?? 0;
  }

  override async insertSku(tx: Transaction, sku: NewSku): Promise<Sku | undefined> {
    const { spuId, skuNo, skuName, priceFen, marketPriceFen, specs } = sku;
    const values = [spuId, skuNo, skuName, priceFen, marketPriceFen, JSON.stringify(specs)];
    const { rows } = await this.db.query<SkuRow>(INSERT_SKU, values, tx);
    return rows[0] && skuOf(rows[0]);
  }

  override async updateSku(id: bigint, version: bigint, patch: SkuPatch): Promise<Sku | undefined> {
    const { rows } = await this.db.query<SkuRow>(UPDATE_SKU, [
      id,
      version,
      patch.skuName ?? null,
      patch.priceFen ?? null,
      patch.marketPriceFen ?? null,
      patch.specs === undefined ? null : JSON.stringify(patch.specs),
    ]);
    return rows[0] && skuOf(rows[0]);
  }

  override async findSku(id: bigint, tx?: Transaction): Promise<Sku | undefined> {
    const { rows } = await this.db.query<SkuRow>(FIND_SKU, [id], tx);
    return rows[0] && skuOf(rows[0]);
  }

  override async listSkus(spuId: bigint): Promise<readonly Sku[]> {
    return (await this.db.query<SkuRow>(LIST_SKUS, [spuId])).rows.map(skuOf);
  }

  override async findGoods(skuId: bigint): Promise<Goods | undefined> {
    const { rows } = await this.db.query<GoodsRow>(FIND_GOODS, [skuId]);
    return rows[0] && goodsOf(rows[0]);
  }

  override async findAllGoods(skuIds: readonly bigint[]): Promise<readonly Goods[]> {
    return (await this.db.query<GoodsRow>(FIND_ALL_GOODS, [int8s(skuIds, (id) => id)])).rows.map(goodsOf);
  }

  override async lockGoods(tx: Transaction, skuIds: readonly bigint[]): Promise<readonly Goods[]> {
    return (await this.db.query<GoodsRow>(LOCK_GOODS, [int8s(skuIds, (id) => id)], tx)).rows.map(goodsOf);
  }
}

interface SpuRow {
  id: bigint;
  spu_no: string;
  title: string;
  category_id: bigint;
  brand_id: bigint;
  main_images: string[];
  /** undefined in lists. */
  detail_html?: string;
  publish_status: number;
  seller_id: string | null;
  goods_type: string;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

interface ListedSpuRow extends SpuRow {
  min_price: bigint | null;
  max_price: bigint | null;
  free: bigint;
}

interface SkuRow {
  id: bigint;
  spu_id: bigint;
  sku_no: string;
  sku_name: string;
  price: bigint;
  market_price: bigint | null;
  stock: bigint;
  lock_stock: bigint;
  stock_seq: bigint;
  specs: Record<string, string>;
  contents: readonly SkuContentJson[] | null;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

type GoodsRow = SkuRow &
  Pick<SpuRow, 'title' | 'category_id' | 'main_images' | 'publish_status' | 'seller_id' | 'goods_type'>;

function spuOf(row: SpuRow): Spu {
  return {
    id: row.id,
    spuNo: row.spu_no,
    title: row.title,
    categoryId: row.category_id,
    brandId: row.brand_id,
    mainImages: row.main_images,
    detailHtml: row.detail_html ?? '',
    publishStatus: publishStatusOf(row.publish_status),
    sellerId: row.seller_id ?? undefined,
    goodsType: row.goods_type,
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

function listedSpuOf(row: ListedSpuRow): ListedSpu {
  const { min_price: minFen, max_price: maxFen, free: freeStock } = row;
  const prices = minFen === null || maxFen === null ? undefined : { minFen, maxFen };
  return { ...spuOf(row), prices, freeStock };
}

function goodsOf(row: GoodsRow): Goods {
  const { title, category_id: categoryId, main_images: mainImages } = row;
  return {
    sku: skuOf(row),
    spu: {
      ...{ title, categoryId, mainImages, publishStatus: publishStatusOf(row.publish_status) },
      sellerId: row.seller_id ?? undefined,
      goodsType: row.goods_type,
    },
  };
}

function skuOf(row: SkuRow): Sku {
  return {
    id: row.id,
    spuId: row.spu_id,
    skuNo: row.sku_no,
    skuName: row.sku_name,
    priceFen: row.price,
    marketPriceFen: row.market_price ?? 0n,
    stock: row.stock,
    lockStock: row.lock_stock,
    stockSeq: row.stock_seq,
    specs: row.specs,
    contents: row.contents?.map(skuContentOf) ?? [],
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
