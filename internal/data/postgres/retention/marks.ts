import type { Postgres, Statement } from '../postgres.js';

/** The domain whose tables a statement uses; the tables of the resource domain have a prefix. */
export type Domain = 'product' | 'resource';

export function tableOf(domain: Domain, table: string): string {
  return domain === 'product' ? table : `resource_${table}`;
}

/** Adds the rows of the CTE `gone` to their marks. `kind` and `scope` are expressions over its columns. */
export function addMark(domain: Domain, kind: string, scope: string, before: string): string {
  const marks = tableOf(domain, 'retention_marks');
  return `INSERT INTO ${marks} AS m (kind, scope, deleted_before, rows_deleted)
    SELECT ${kind}, ${scope}, ${before}, count(*) FROM gone GROUP BY 1, 2
    ON CONFLICT (kind, scope) DO UPDATE SET rows_deleted = m.rows_deleted + EXCLUDED.rows_deleted,
      deleted_before = greatest(m.deleted_before, EXCLUDED.deleted_before)`;
}

/** What retention deleted of one kind and scope. */
export interface RetentionMark {
  /** As in the table, with the domain before it where it is the resource domain's. */
  readonly kind: string;
  readonly deletedBefore: Date;
  readonly rows: number;
}

const MARKS: Statement = {
  name: 'retention_marks',
  text: `SELECT kind, max(deleted_before) AS deleted_before, sum(rows_deleted)::float8 AS rows
    FROM (SELECT kind, deleted_before, rows_deleted FROM retention_marks
      UNION ALL SELECT 'resource_' || kind, deleted_before, rows_deleted FROM resource_retention_marks) AS marks
    GROUP BY kind ORDER BY kind`,
};

/** By kind, over all scopes. */
export async function retentionMarks(db: Postgres): Promise<readonly RetentionMark[]> {
  const { rows } = await db.query<{ kind: string; deleted_before: Date; rows: number }>(MARKS, []);
  return rows.map((row) => ({ kind: row.kind, deletedBefore: row.deleted_before, rows: row.rows }));
}
