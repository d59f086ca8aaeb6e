import type { CartOwner } from '../../biz/cart/cart-owner.js';
import { type CartLine, type SavedCart, SavedCarts, type UnsavedCart } from '../../biz/cart/cart-store.js';
import { int4s, int8s, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';

// Ids and amounts in JSON are text, so that none is rounded.
const FIND: Statement = {
  name: 'cart_find',
  text: `SELECT c.version, c.taken, c.merged_at IS NOT NULL AS merged,
      (SELECT coalesce(jsonb_agg(jsonb_build_object('sku_id', i.sku_id::text, 'quantity', i.quantity, 'selected', i.selected,
          'price', i.price::text, 'added_at', extract(epoch FROM i.added_at)::bigint)), '[]')
        FROM cart_items i WHERE i.owner_id = $1 AND i.guest = $2) AS lines,
      (SELECT coalesce(jsonb_agg(jsonb_build_object('id', k.id::text, 'order_id', k.order_id::text, 'lines', k.lines)
          ORDER BY k.id), '[]')
        FROM cart_checkouts k WHERE NOT $2 AND k.user_id = $1 AND k.id > coalesce(c.taken, 0)) AS checkouts
    FROM (VALUES (1)) AS one LEFT JOIN carts c ON c.owner_id = $1 AND c.guest = $2`,
};

/*
 * Sorted, so that two savers that share carts wait for each other in one direction. The lines are written by statements of
 * their own: this one may have waited for another saver, whose lines its snapshot would not show.
 */
const SAVE: Statement = {
  name: 'cart_save',
  text: `INSERT INTO carts AS c (owner_id, guest, version, taken, expires_at)
    SELECT owner_id, expires_ms IS NOT NULL, version, taken, to_timestamp(expires_ms / 1000.0)
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[]) AS t(owner_id, expires_ms, version, taken)
    ORDER BY owner_id, expires_ms IS NOT NULL
    ON CONFLICT (owner_id, guest) DO UPDATE SET version = EXCLUDED.version, taken = EXCLUDED.taken, saved_at = now()
      WHERE c.version < EXCLUDED.version AND c.merged_at IS NULL
    RETURNING owner_id, guest`,
};

const VERSIONS: Statement = {
  name: 'cart_versions',
  text: `SELECT c.owner_id, c.guest, c.version FROM carts c
    JOIN unnest($1::uuid[], $2::bigint[]) AS t(owner_id, expires_ms)
      ON c.owner_id = t.owner_id AND c.guest = (t.expires_ms IS NOT NULL)
    WHERE c.merged_at IS NULL`,
};

const DELETE_LINES: Statement = {
  name: 'cart_delete_lines',
  text: `DELETE FROM cart_items i USING unnest($1::uuid[], $2::bigint[]) AS t(owner_id, expires_ms)
    WHERE i.owner_id = t.owner_id AND i.guest = (t.expires_ms IS NOT NULL)
      AND NOT EXISTS (SELECT FROM unnest($3::uuid[], $4::int[], $5::bigint[]) AS l(owner_id, guest, sku_id)
        WHERE l.owner_id = i.owner_id AND (l.guest = 1) = i.guest AND l.sku_id = i.sku_id)`,
};

const PUT_LINES: Statement = {
  name: 'cart_put_lines',
  text: `INSERT INTO cart_items AS i (owner_id, guest, sku_id, quantity, selected, price, added_at)
    SELECT owner_id, guest = 1, sku_id, quantity, selected = 1, price, to_timestamp(added_s)
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::int[], $5::int[], $6::bigint[], $7::bigint[])
      AS t(owner_id, guest, sku_id, quantity, selected, price, added_s)
    ON CONFLICT (owner_id, guest, sku_id) DO UPDATE
      SET quantity = EXCLUDED.quantity, selected = EXCLUDED.selected, price = EXCLUDED.price, added_at = EXCLUDED.added_at
      WHERE (i.quantity, i.selected, i.price, i.added_at)
        IS DISTINCT FROM (EXCLUDED.quantity, EXCLUDED.selected, EXCLUDED.price, EXCLUDED.added_at)`,
};

const MERGE: Statement = {
  name: 'cart_merge',
  text: `WITH m AS (
      INSERT INTO carts AS c (owner_id, guest, version, expires_at, merged_at)
      SELECT owner_id, true, 0, to_timestamp(expires_ms / 1000.0), now()
      FROM unnest($1::uuid[], $2::bigint[]) AS t(owner_id, expires_ms) ORDER BY owner_id
      ON CONFLICT (owner_id, guest) DO UPDATE SET merged_at = coalesce(c.merged_at, now())
      RETURNING owner_id)
    DELETE FROM cart_items i USING m WHERE i.owner_id = m.owner_id AND i.guest`,
};

const FORGET_CHECKOUTS: Statement = {
  name: 'cart_forget_checkouts',
  text: `DELETE FROM cart_checkouts k USING unnest($1::uuid[], $2::bigint[]) AS t(user_id, taken)
    WHERE k.user_id = t.user_id AND k.id <= t.taken`,
};

/** Carts in `carts` and `cart_items`. */
export class PgSavedCarts extends SavedCarts {
  constructor(private readonly db: Postgres) {
    super();
  }

  override async find({ id, guest }: CartOwner): Promise<SavedCart | undefined> {
    const { rows } = await this.db.query<CartRow>(FIND, [id, guest !== undefined]);
    const [row] = rows;
    if (!row || (row.version === null && row.checkouts.length === 0)) return undefined;
    return {
      version: row.version ?? 0n,
      taken: row.taken ?? 0n,
      merged: row.merged,
      lines: row.lines.map(lineOf),
      checkouts: row.checkouts.map((c) => ({
        ...{ id: BigInt(c.id), userId: id, orderId: BigInt(c.order_id) },
        lines: c.lines.map((l) => ({ skuId: BigInt(l.sku_id), quantity: l.quantity })),
      })),
    };
  }

  override save(carts: readonly UnsavedCart[]): Promise<readonly bigint[]> {
    return this.db.run(
      async (tx) => {
        const owners = ownerColumns(carts);
        const values = [...owners, int8s(carts, (c) => c.version), int8s(carts, (c) => c.taken)];
        const { rows } = await this.db.query<OwnerRow>(SAVE, values, tx);
        const written = new Set(rows.map(keyOfRow));
        const taken = carts.filter((c) => written.has(keyOf(c.owner)));
        const higher = new Map<string, bigint>();
        if (taken.length < carts.length) {
          const { rows: found } = await this.db.query<OwnerRow & { version: bigint }>(VERSIONS, [...owners], tx);
          for (const row of found) higher.set(keyOfRow(row), row.version);
        }
        const lines = taken.flatMap(({ owner, lines }) => lines.map((line) => ({ ...line, owner })));
        const lineKeys = [uuids(lines, (l) => l.owner.id), int4s(lines, (l) => (l.owner.guest ? 1 : 0))];
        const skus = int8s(lines, (l) => l.skuId);
        if (taken.length > 0) await this.db.query(DELETE_LINES, [...ownerColumns(taken), ...lineKeys, skus], tx);
        if (lines.length > 0) await this.db.query(PUT_LINES, [...lineKeys, skus, ...lineColumns(lines)], tx);
        const merges = taken.flatMap((c) => c.merges);
        if (merges.length > 0) {
          const columns = [uuids(merges, (m) => m.id), int8s(merges, (m) => BigInt(m.expiresAt.getTime()))];
          await this.db.query(MERGE, columns, tx);
        }
        const ordered = taken.filter((c) => !c.owner.guest && c.taken > 0n);
        if (ordered.length > 0) {
          const columns = [uuids(ordered, (c) => c.owner.id), int8s(ordered, (c) => c.taken)];
          await this.db.query(FORGET_CHECKOUTS, columns, tx);
        }
        return carts.map((c) => higher.get(keyOf(c.owner)) ?? c.version);
      },
      { idempotent: true },
    );
  }
}

interface OwnerRow {
  owner_id: string;
  guest: boolean;
}

interface CartRow {
  version: bigint | null;
  taken: bigint | null;
  merged: boolean;
  lines: LineRow[];
  checkouts: { id: string; order_id: string; lines: { sku_id: string; quantity: number }[] }[];
}

interface LineRow {
  sku_id: string;
  quantity: number;
  selected: boolean;
  price: string | null;
  added_at: number;
}

function lineOf({ sku_id: skuId, quantity, selected, price, added_at: addedS }: LineRow): CartLine {
  const priceFen = price === null ? undefined : BigInt(price);
  return { skuId: BigInt(skuId), quantity, selected, priceFen, addedAt: new Date(addedS * 1_000) };
}

function ownerColumns(carts: readonly UnsavedCart[]): readonly [Buffer, Buffer] {
  const expiresMs = ({ owner: { guest } }: UnsavedCart) => guest && BigInt(guest.expiresAt.getTime());
  return [uuids(carts, (c) => c.owner.id), int8s(carts, expiresMs)];
}

function lineColumns(lines: readonly CartLine[]): readonly Buffer[] {
  return [
    int4s(lines, (l) => l.quantity),
    int4s(lines, (l) => (l.selected ? 1 : 0)),
    int8s(lines, (l) => l.priceFen),
    int8s(lines, (l) => BigInt(Math.floor(l.addedAt.getTime() / 1_000))),
  ];
}

function keyOf({ id, guest }: CartOwner): string {
  return guest ? `guest ${id}` : id;
}

function keyOfRow({ owner_id: id, guest }: OwnerRow): string {
  return guest ? `guest ${id}` : id;
}
