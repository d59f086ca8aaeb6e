import { setTimeout as sleep } from 'node:timers/promises';
import { AuditUsecase } from '../../internal/biz/audit/audit.js';
import { auditChecks } from '../../internal/data/postgres/audit/checks.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import type { RedisServer } from '../../internal/data/redis/redis.js';

/** The invariants of flash sales, which hold before any instance is created. */
export const SALE_INVARIANTS = [1, 2, 3, 4, 5, 6];

export function auditor(db: Postgres, redis: RedisServer): AuditUsecase {
  return new AuditUsecase(auditChecks(db, redis), sleep);
}

/** Every violation of a system at rest as `<invariant> <id>: <detail>`, and what could not be checked. */
export async function violationsOf(db: Postgres, redis: RedisServer, only?: readonly number[]): Promise<string[]> {
  const report = await auditor(db, redis).run({ limit: 1_000, ...(only && { only }) });
  return [
    ...report.findings.flatMap((f) => f.violations.map((v) => `${f.invariant} ${v.id}: ${v.detail}`)),
    ...report.unchecked.map((u) => `${u.invariant} not checked: ${u.id}: ${u.detail}`),
  ];
}
