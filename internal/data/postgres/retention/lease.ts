import { randomUUID } from 'node:crypto';
import { RetentionLease } from '../../../biz/retention/retention.js';
import type { Postgres, Statement } from '../postgres.js';
import { type Domain, tableOf } from './marks.js';

const NAME = 'pass';

/** A row that says who deletes and until when. The times are the database's. */
export class PgRetentionLease extends RetentionLease {
  private readonly holder = randomUUID();
  private readonly takeIt: Statement;
  private readonly renewIt: Statement;

  constructor(
    private readonly db: Postgres,
    domain: Domain,
  ) {
    super();
    const table = tableOf(domain, 'retention_leases');
    this.takeIt = {
      name: `${table}_take`,
      text: `INSERT INTO ${table} AS l (name, holder, until) VALUES ('${NAME}', $1, now() + $2 * interval '1 ms')
        ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until WHERE l.until <= now()`,
    };
    this.renewIt = {
      name: `${table}_renew`,
      text: `UPDATE ${table} SET until = now() + $2 * interval '1 ms', holder = $3 WHERE name = '${NAME}' AND holder = $1`,
    };
  }

  override async take(leaseMs: number): Promise<boolean> {
    const { rowCount } = await this.db.query(this.takeIt, [this.holder, leaseMs]);
    return rowCount === 1;
  }

  override async renew(leaseMs: number): Promise<boolean> {
    const { rowCount } = await this.db.query(this.renewIt, [this.holder, leaseMs, this.holder]);
    return rowCount === 1;
  }

  override async release(nextAfterMs: number): Promise<void> {
    await this.db.query(this.renewIt, [this.holder, nextAfterMs, '']);
  }
}
