import type { AuditCheck } from '../../../biz/audit/audit.js';
import type { Provisioner } from '../../../biz/instance/instance-job.js';
import type { RedisServer } from '../../redis/redis.js';
import type { Postgres } from '../postgres.js';
import { AdmissionSettingsCheck } from './admission-settings.js';
import { COMPLETED_ORDERS } from './completed-orders.js';
import { COUPONS } from './coupons.js';
import { DUPLICATES } from './duplicates.js';
import { INBOX_OUTCOMES } from './inbox-outcomes.js';
import { INSTANCE_REQUESTS } from './instance-requests.js';
import { INSTANCES, InstancesCheck } from './instances.js';
import { OPENED_CONTENTS } from './opened-contents.js';
import { ORDER_STATS } from './order-stats.js';
import { OUTBOX } from './outbox.js';
import { OVERDUE_ORDERS } from './overdue-orders.js';
import { PAYMENTS } from './payments.js';
import { REFUNDS } from './refunds.js';
import { SaleBalanceCheck } from './sale-balance.js';
import { SaleReader } from './sale-reader.js';
import { SOLD_UNITS } from './sold-units.js';
import { SqlCheck, type SqlInvariant } from './sql-check.js';
import { STOCK } from './stock.js';
import { StreamEntriesCheck } from './stream-entries.js';
import { BuyersCheck, USER_LIMITS } from './user-limits.js';

const SQL_INVARIANTS: readonly SqlInvariant[] = [
  SOLD_UNITS,
  USER_LIMITS,
  INBOX_OUTCOMES,
  DUPLICATES,
  INSTANCE_REQUESTS,
  OUTBOX,
  COMPLETED_ORDERS,
  OPENED_CONTENTS,
  OVERDUE_ORDERS,
  PAYMENTS,
  STOCK,
  REFUNDS,
  COUPONS,
  ORDER_STATS,
];

/**
 * The checks of all invariants.
 * @param provisioner undefined: the instances are those of the simulator
 */
export function auditChecks(db: Postgres, redis: RedisServer, provisioner?: Provisioner): readonly AuditCheck[] {
  const sales = new SaleReader(db, redis);
  return [
    ...(provisioner ? [new InstancesCheck(db, provisioner)] : sqlChecks(db, [INSTANCES])),
    ...sqlChecks(db, SQL_INVARIANTS),
    new SaleBalanceCheck(sales),
    new BuyersCheck(sales),
    new StreamEntriesCheck(db, redis),
    new AdmissionSettingsCheck(db, redis),
  ];
}

function sqlChecks(db: Postgres, invariants: readonly SqlInvariant[]): readonly AuditCheck[] {
  return invariants.flatMap(({ invariant, rules }) => rules.map((rule) => new SqlCheck(db, invariant, rule)));
}
