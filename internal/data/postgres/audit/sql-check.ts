import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import type { Postgres, Statement } from '../postgres.js';
import { onSnapshot } from '../snapshot.js';

/** Part of an invariant that PostgreSQL alone can check. */
export interface SqlRule {
  /** Of the prepared statement; unique among all rules. */
  readonly name: string;
  /** Selects `id` and `detail` of each violation, oldest first. $1 limits the rows. */
  readonly text: string;
}

/** Number of an invariant and its rules. */
export interface SqlInvariant {
  readonly invariant: number;
  readonly rules: readonly SqlRule[];
}

export class SqlCheck extends AuditCheck {
  private readonly statement: Statement;

  constructor(
    private readonly db: Postgres,
    override readonly invariant: number,
    { name, text }: SqlRule,
  ) {
    super();
    this.statement = { name: `audit_${name}`, text };
  }

  override async check(limit: number): Promise<CheckResult> {
    const { rows } = await onSnapshot(this.db, (tx) => this.db.query<InvariantViolation>(this.statement, [limit], tx));
    return { violations: rows.map(({ id, detail }) => ({ id, detail })) };
  }
}
