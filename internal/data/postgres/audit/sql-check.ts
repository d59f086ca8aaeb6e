import { AuditCheck, type CheckResult, type InvariantViolation } from '../../../biz/audit/audit.js';
import type { Transaction } from '../../../biz/transaction.js';
import type { Postgres, Statement } from '../postgres.js';

const SNAPSHOT: Statement = {
  name: 'audit_snapshot',
  text: 'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY',
};

/** Runs `work` in a read-only transaction whose statements all see the data of one moment. */
export function onSnapshot<T>(db: Postgres, work: (tx: Transaction) => Promise<T>): Promise<T> {
  return db.run(async (tx) => {
    await db.query(SNAPSHOT, [], tx);
    return work(tx);
  });
}

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
