import {
  type ExpiredPage,
  type ExpiredRows,
  type RetentionKind,
  RetentionStore,
} from '../../../biz/retention/retention.js';
import type { Transaction } from '../../../biz/transaction.js';
import type { Postgres, Statement } from '../postgres.js';

/** The time that rows must be older than. $2 of the statements is how long they are kept, ms. */
export const BEFORE = `now() - $2::float8 * interval '1 ms'`;

interface KeyedStatements {
  /** Selects `FoundRow`s with keys after $1, in their order, up to $3 rows. */
  readonly find: Statement;
  /** Deletes those of the keys $1 that may still be deleted. Selects their number as `n`. */
  readonly delete: Statement;
}

/** Rows of a table that is read by its key, which grows with time. */
export abstract class KeyedRetention extends RetentionStore {
  constructor(
    protected readonly db: Postgres,
    override readonly kind: RetentionKind,
    private readonly statements: KeyedStatements,
  ) {
    super();
  }

  override async find(keepMs: number, from = '0', limit = 0): Promise<ExpiredPage> {
    const { rows } = await this.db.query<FoundRow>(this.statements.find, [from, keepMs, limit]);
    return pageOf(rows, limit);
  }

  override async delete(tx: Transaction, { keys }: ExpiredRows, keepMs: number): Promise<number> {
    const { rows } = await this.db.query<{ n: number }>(this.statements.delete, [keys, keepMs], tx);
    return rows[0]?.n ?? 0;
  }
}

interface FoundRow {
  key: string;
  /** Too young to be deleted, and so are those behind it. */
  young: boolean;
  deletable: boolean;
}

/** A table ends where all rows are young: one of them may have been written late. */
function pageOf(rows: readonly FoundRow[], limit: number): ExpiredPage {
  const more = rows.length === limit && !rows.every((row) => row.young);
  return {
    rows: rows.filter((row) => row.deletable).map(({ key }) => ({ scope: '', key })),
    next: more ? rows.at(-1)?.key : undefined,
  };
}
