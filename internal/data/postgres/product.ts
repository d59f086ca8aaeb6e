import type {
  NewProduct,
  NewProductSpec,
  Product,
  ProductPatch,
  ProductSpec,
  ProductStatus,
} from '../../biz/catalog/product.js';
import { ProductRepo } from '../../biz/catalog/product.js';
import type { Page, PageRequest } from '../../biz/page.js';
import type { Postgres, Statement } from './postgres.js';
import { PRODUCT_STATUS, productStatusOf } from './status.js';

const FOREIGN_KEY_VIOLATION = '23503';

const INSERT_SPEC: Statement = {
  name: 'product_spec_insert',
  text: `INSERT INTO product_specs (cpu, memory, gpu, image, config_json) VALUES ($1, $2, $3, $4, $5)
    RETURNING id AS spec_id, cpu, memory, gpu, image, config_json, created_at AS spec_created_at`,
};

const COLUMNS = `p.id, p.name, p.description, p.status, p.price, p.image_url, p.seller_id, p.version, p.created_at,
  p.updated_at, s.id AS spec_id, s.cpu, s.memory, s.gpu, s.image, s.config_json, s.created_at AS spec_created_at`;

const INSERT: Statement = {
  name: 'product_insert',
  text: `WITH p AS (
      INSERT INTO products (name, description, status, price, spec_id, image_url, seller_id)
      VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *)
    SELECT ${COLUMNS} FROM p JOIN product_specs s ON s.id = p.spec_id`,
};

const UPDATE: Statement = {
  name: 'product_update',
  text: `WITH p AS (
      UPDATE products SET name = coalesce($3, name), description = coalesce($4, description),
        price = coalesce($5, price), status = coalesce($6, status), image_url = coalesce($7, image_url),
        version = version + 1, updated_at = now()
      WHERE id = $1 AND version = $2 RETURNING *)
    SELECT ${COLUMNS} FROM p JOIN product_specs s ON s.id = p.spec_id`,
};

const FIND: Statement = {
  name: 'product_find',
  text: `SELECT ${COLUMNS} FROM products p JOIN product_specs s ON s.id = p.spec_id WHERE p.id = $1`,
};

const LIST: Statement = {
  name: 'product_list',
  text: `SELECT ${COLUMNS} FROM products p JOIN product_specs s ON s.id = p.spec_id
    WHERE ($1::smallint IS NULL OR p.status = $1) ORDER BY p.id OFFSET $2 LIMIT $3`,
};

const COUNT: Statement = {
  name: 'product_count',
  text: 'SELECT count(*) AS total FROM products WHERE ($1::smallint IS NULL OR status = $1)',
};

export class PgProductRepo extends ProductRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insertSpec(spec: NewProductSpec): Promise<ProductSpec> {
    const config = spec.config === undefined ? null : JSON.stringify(spec.config);
    const { rows } = await this.db.query<SpecRow>(INSERT_SPEC, [spec.cpu, spec.memoryGb, spec.gpu, spec.image, config]);
    return specOf(rows[0]!);
  }

  override async insert(product: NewProduct): Promise<Product | undefined> {
    try {
      const { rows } = await this.db.query<ProductRow>(INSERT, [
        product.name,
        product.description,
        PRODUCT_STATUS[product.status],
        product.priceFen,
        product.specId,
        product.imageUrl,
        product.sellerId ?? null,
      ]);
      return rows[0] && productOf(rows[0]);
    } catch (err) {
      if ((err as { code?: string }).code === FOREIGN_KEY_VIOLATION) return undefined;
      throw err;
    }
  }

  override async update(id: bigint, version: bigint, patch: ProductPatch): Promise<Product | undefined> {
    const { rows } = await this.db.query<ProductRow>(UPDATE, [
      id,
      version,
      patch.name ?? null,
      patch.description ?? null,
      patch.priceFen ?? null,
      patch.status === undefined ? null : PRODUCT_STATUS[patch.status],
      patch.imageUrl ?? null,
    ]);
    return rows[0] && productOf(rows[0]);
  }

  override async find(id: bigint): Promise<Product | undefined> {
    const { rows } = await this.db.query<ProductRow>(FIND, [id]);
    return rows[0] && productOf(rows[0]);
  }

  override async list(page: PageRequest, status: ProductStatus | undefined): Promise<Page<Product>> {
    const code = status === undefined ? null : PRODUCT_STATUS[status];
    const [list, count] = await Promise.all([
      this.db.query<ProductRow>(LIST, [code, page.offset, page.limit]),
      this.db.query<{ total: bigint }>(COUNT, [code]),
    ]);
    return { items: list.rows.map(productOf), total: count.rows[0]?.total ?? 0n };
  }
}

interface SpecRow {
  spec_id: bigint;
  cpu: number;
  memory: number;
  gpu: number;
  image: string;
  config_json: Record<string, unknown> | null;
  spec_created_at: Date;
}

interface ProductRow extends SpecRow {
  id: bigint;
  name: string;
  description: string;
  status: number;
  price: bigint;
  image_url: string;
  seller_id: string | null;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

function specOf(row: SpecRow): ProductSpec {
  return {
    id: row.spec_id,
    cpu: row.cpu,
    memoryGb: row.memory,
    gpu: row.gpu,
    image: row.image,
    config: row.config_json ?? undefined,
    createdAt: row.spec_created_at,
  };
}

function productOf(row: ProductRow): Product {
  return {
    id: row.id,
    name: row.name,
    description: row.description,
    status: productStatusOf(row.status),
    priceFen: row.price,
    spec: specOf(row),
    imageUrl: row.image_url,
    sellerId: row.seller_id ?? undefined,
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
