import {
  type Content,
  type ContentFilter,
  type ContentPatch,
  ContentRepo,
  type NewContent,
} from '../../biz/catalog/content.js';
import type { SkuContent } from '../../biz/catalog/sku-content.js';
import type { Transaction } from '../../biz/transaction.js';
import { int4s, int8s } from './column.js';
import type { Postgres, Statement } from './postgres.js';
import { PUBLISH_STATUS, publishStatusOf } from './status.js';

const COLUMNS = `id, title, content_type, price, access_days, publish_status, seller_id, version, created_at, updated_at`;

const INSERT: Statement = {
  name: 'content_insert',
  text: `INSERT INTO contents (title, content_type, price, access_days, access_type, publish_status, seller_id)
    VALUES ($1, $2, $3, $4, CASE WHEN $4::int IS NULL THEN 'PERMANENT' ELSE 'TEMPORARY' END, $5, $6) RETURNING ${COLUMNS}`,
};

// It waits for grants that share the row: they copy the title, and what they copied is stored before the title changes.
const UPDATE: Statement = {
  name: 'content_update',
  text: `UPDATE contents SET title = coalesce($3, title), content_type = coalesce($4, content_type),
      price = coalesce($5, price), publish_status = coalesce($6, publish_status), seller_id = coalesce($7, seller_id),
      access_days = CASE WHEN $8 THEN $9::int ELSE access_days END,
      access_type = CASE WHEN NOT $8 THEN access_type WHEN $9::int IS NULL THEN 'PERMANENT' ELSE 'TEMPORARY' END,
      version = version + 1, updated_at = now()
    WHERE id = $1 AND version = $2 RETURNING ${COLUMNS}`,
};

const FIND: Statement = { name: 'content_find', text: `SELECT ${COLUMNS} FROM contents WHERE id = $1` };

// Titles are searched row by row: a shop has few contents, and an index of parts of words would need an extension.
const LIST: Statement = {
  name: 'content_list',
  text: `SELECT ${COLUMNS} FROM contents
    WHERE ($1::bigint IS NULL OR id < $1) AND ($2::text IS NULL OR strpos(lower(title), lower($2)) > 0)
      AND ($3::text IS NULL OR content_type = $3) AND ($4::smallint IS NULL OR publish_status = $4)
    ORDER BY id DESC LIMIT $5`,
};

const LOCK_SKU: Statement = {
  name: 'sku_lock_contents',
  text: 'SELECT FROM sku WHERE id = $1 FOR NO KEY UPDATE',
};

const FIND_MISSING: Statement = {
  name: 'content_find_missing',
  text: `SELECT t.id FROM unnest($1::bigint[]) AS t(id)
    WHERE NOT EXISTS (SELECT FROM contents c WHERE c.id = t.id) ORDER BY 1`,
};

const DELETE_SKU_CONTENTS: Statement = {
  name: 'sku_contents_delete',
  text: 'DELETE FROM sku_contents WHERE sku_id = $1',
};

const INSERT_SKU_CONTENTS: Statement = {
  name: 'sku_contents_insert',
  text: `INSERT INTO sku_contents (sku_id, content_id, access_days, access_type)
    SELECT $1, content_id, days, CASE WHEN days IS NULL THEN 'PERMANENT' ELSE 'TEMPORARY' END
    FROM unnest($2::bigint[], $3::int[]) AS t(content_id, days)`,
};

export class PgContentRepo extends ContentRepo {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async insert(content: NewContent): Promise<Content> {
    const { rows } = await this.db.query<ContentRow>(INSERT, [
      content.title,
      content.contentType,
      content.priceFen,
      content.accessDays ?? null,
      PUBLISH_STATUS[content.publishStatus],
      content.sellerId ?? null,
    ]);
    return contentOf(rows[0]!);
  }

  override async update(
    tx: Transaction,
    id: bigint,
    version: bigint,
    { title, contentType, priceFen, publishStatus, sellerId, access }: ContentPatch,
  ): Promise<Content | undefined> {
    const values = [
      ...[id, version, title ?? null, contentType ?? null, priceFen ?? null],
      ...[publishStatus === undefined ? null : PUBLISH_STATUS[publishStatus], sellerId ?? null],
      ...[access !== undefined, access?.accessDays ?? null],
    ];
    const { rows } = await this.db.query<ContentRow>(UPDATE, values, tx);
    return rows[0] && contentOf(rows[0]);
  }

  override async find(id: bigint): Promise<Content | undefined> {
    const { rows } = await this.db.query<ContentRow>(FIND, [id]);
    return rows[0] && contentOf(rows[0]);
  }

  override async list(filter: ContentFilter, belowId: bigint | undefined, limit: number): Promise<readonly Content[]> {
    const { title, contentType, publishStatus } = filter;
    const { rows } = await this.db.query<ContentRow>(LIST, [
      ...[belowId ?? null, title ?? null, contentType ?? null],
      ...[publishStatus === undefined ? null : PUBLISH_STATUS[publishStatus], limit],
    ]);
    return rows.map(contentOf);
  }

  override async setSkuContents(
    tx: Transaction,
    skuId: bigint,
    contents: readonly SkuContent[],
  ): Promise<'no-sku' | { readonly missing: readonly bigint[] } | undefined> {
    if ((await this.db.query(LOCK_SKU, [skuId], tx)).rowCount === 0) return 'no-sku';
    const ids = int8s(contents, (c) => c.contentId);
    const missing = (await this.db.query<{ id: bigint }>(FIND_MISSING, [ids], tx)).rows.map((row) => row.id);
    if (missing.length > 0) return { missing };
    await this.db.query(DELETE_SKU_CONTENTS, [skuId], tx);
    await this.db.query(INSERT_SKU_CONTENTS, [skuId, ids, int4s(contents, (c) => c.days)], tx);
    return undefined;
  }
}

interface ContentRow {
  id: bigint;
  title: string;
  content_type: string;
  price: bigint;
  access_days: number | null;
  publish_status: number;
  seller_id: string | null;
  version: bigint;
  created_at: Date;
  updated_at: Date;
}

function contentOf(row: ContentRow): Content {
  return {
    id: row.id,
    title: row.title,
    contentType: row.content_type,
    priceFen: row.price,
    accessDays: row.access_days ?? undefined,
    publishStatus: publishStatusOf(row.publish_status),
    sellerId: row.seller_id ?? undefined,
    version: row.version,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

/** A `SkuContent` in JSON. The id is text, because JSON numbers lose digits. */
export interface SkuContentJson {
  readonly content_id: string;
  readonly days: number | null;
}

export function skuContentJson({ contentId, days }: SkuContent): SkuContentJson {
  return { content_id: String(contentId), days: days ?? null };
}

export function skuContentOf({ content_id, days }: SkuContentJson): SkuContent {
  return { contentId: BigInt(content_id), days: days ?? undefined };
}
