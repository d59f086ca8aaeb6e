import { setTimeout as sleep } from 'node:timers/promises';
import { AuditUsecase } from '../../internal/biz/audit/audit.js';
import { sqlChecks } from '../../internal/data/postgres/audit.js';
import { saleChecks } from '../../internal/data/postgres/audit-sale.js';
import { streamCheck } from '../../internal/data/postgres/audit-stream.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import type { RedisServer } from '../../internal/data/redis/redis.js';

/** What the flash sale promises by itself, without the way to an instance. */
export const SALE_INVARIANTS = [1, 2, 3, 4, 5, 6];

export function auditor(db: Postgres, redis: RedisServer): AuditUsecase {
  return new AuditUsecase([...sqlChecks(db), ...saleChecks(db, redis), streamCheck(db, redis)], sleep);
}

/** Every offence of a system at rest as `<invariant> <id>: <detail>`, and what could not be judged. */
export async function offencesOf(db: Postgres, redis: RedisServer, only?: readonly number[]): Promise<string[]> {
  const report = await auditor(db, redis).run({ limit: 1_000, ...(only && { only }) });
  return [
    ...report.findings.flatMap((f) => f.offences.map((o) => `${f.invariant} ${o.id}: ${o.detail}`)),
    ...report.unchecked.map((u) => `${u.invariant} not checked: ${u.id}: ${u.detail}`),
  ];
}
