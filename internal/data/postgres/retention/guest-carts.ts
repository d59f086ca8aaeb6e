import { type ExpiredPage, type ExpiredRows, RetentionStore } from '../../../biz/retention/retention.js';
import type { Transaction } from '../../../biz/transaction.js';
import type { Postgres, Statement } from '../postgres.js';

const EXPIRED = `guest AND expires_at < now() - $2::float8 * interval '1 ms'`;

const FIND: Statement = {
  name: 'retention_guest_carts_find',
  text: `SELECT owner_id::text AS key FROM carts WHERE owner_id > $1::uuid AND ${EXPIRED} ORDER BY owner_id LIMIT $3`,
};

const DELETE: Statement = {
  name: 'retention_guest_carts_delete',
  text: `WITH gone AS (DELETE FROM carts WHERE owner_id = ANY ($1::uuid[]) AND ${EXPIRED} RETURNING 1)
    SELECT count(*)::int AS n FROM gone`,
};

const FIRST = '00000000-0000-0000-0000-000000000000';

/** Saved carts of guests whose tokens have expired; no call reaches them any more. */
export class PgGuestCartRetention extends RetentionStore {
  override readonly kind = 'guest_carts';

  constructor(private readonly db: Postgres) {
    super();
  }

  override async find(keepMs: number, from = FIRST, limit = 0): Promise<ExpiredPage> {
    const { rows } = await this.db.query<{ key: string }>(FIND, [from, keepMs, limit]);
    const next = rows.length === limit ? rows.at(-1)?.key : undefined;
    return { rows: rows.map(({ key }) => ({ scope: '', key })), next };
  }

  override async delete(tx: Transaction, { keys }: ExpiredRows, keepMs: number): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(DELETE, [keys, keepMs], tx);
    return rows[0]?.n ?? 0;
  }
}
