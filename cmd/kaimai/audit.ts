import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { type AuditReport, AuditUsecase, INVARIANTS } from '../../internal/biz/audit/audit.js';
import { sqlChecks } from '../../internal/data/postgres/audit.js';
import { saleChecks } from '../../internal/data/postgres/audit-sale.js';
import { streamCheck } from '../../internal/data/postgres/audit-stream.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';

const CONNECT_TIMEOUT_MS = 10_000;
const REPLY_TIMEOUT_MS = 30_000;
const STATEMENT_TIMEOUT_MS = 300_000;
const DEFAULT_AGE_S = 30;
/** Broken invariants are 1, as the design has it; this tells "could not look" from them. */
const NOT_CARRIED_OUT = 2;

interface Given {
  readonly live?: number | true;
  readonly only?: number[];
  readonly json?: true;
  readonly limit: number;
  readonly keyPrefix: string;
}

export const auditCommand = new Command('audit')
  .description('check that nothing was lost, doubled or oversold; exit 1 and name what breaks an invariant')
  .option(
    '--live [seconds]',
    `the system is at work: leave alone what is younger than this (${DEFAULT_AGE_S})`,
    seconds,
  )
  .option('--only <numbers>', 'these invariants alone, as 1,2,5-7', invariants)
  .option('--json', 'one JSON object in place of text')
  .option('--limit <number>', 'offences of an invariant that are named', limit, 20)
  .option('--key-prefix <prefix>', "data.redis.key_prefix of the product's configuration", '')
  .action(async (given: Given) => {
    try {
      const report = await audit(given);
      console.log(given.json ? JSON.stringify({ ok: report.findings.length === 0, ...report }, null, 2) : text(report));
      if (report.findings.length > 0) process.exitCode = 1;
    } catch (err) {
      console.error(`kaimai audit: ${err instanceof Error ? err.message : err}`);
      process.exitCode = NOT_CARRIED_OUT;
    }
  });

async function audit({ live, only, limit, keyPrefix }: Given): Promise<AuditReport> {
  const db = new Postgres({
    source: required('KAIMAI_POSTGRES_URL'),
    poolSize: 2,
    role: 'kaimai_product',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    // Its transactions wait for Redis between two statements, and they lock nothing.
    idleInTransactionTimeoutMs: STATEMENT_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    allowReadOnly: true,
    applicationName: 'kaimai-audit',
  });
  const redis = new RedisServer({
    addr: required('KAIMAI_REDIS_URL'),
    readTimeoutMs: REPLY_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    keyPrefix,
  });
  try {
    await redis.ready(CONNECT_TIMEOUT_MS);
    const checks = [...sqlChecks(db), ...saleChecks(db, redis), streamCheck(db, redis)];
    const ageMs = live === undefined ? undefined : (live === true ? DEFAULT_AGE_S : live) * 1_000;
    return await new AuditUsecase(checks, sleep).run({
      limit,
      ...(only && { only }),
      ...(ageMs !== undefined && { ageMs }),
    });
  } finally {
    redis.close();
    await db.close();
  }
}

function text({ checked, findings, unchecked }: AuditReport): string {
  const lines = findings.flatMap(({ invariant, rule, count, more, offences }) => [
    `${invariant}. NOT SO: ${rule} (${count}${more ? ' or more' : ''})`,
    ...offences.map((o) => `   ${o.id}: ${o.detail}`),
    ...(count > offences.length ? [`   … and ${count - offences.length}${more ? ' or more' : ''} others`] : []),
  ]);
  for (const { invariant, id, detail } of unchecked) lines.push(`${invariant}. not checked: ${id}: ${detail}`);
  const broken = findings.length === 0 ? 'all hold' : `${findings.length} broken`;
  lines.push(`invariants ${checked.join(', ')}: ${broken}`);
  return lines.join('\n');
}

function required(name: string): string {
  const value = process.env[name];
  if (value) return value;
  throw new Error(`${name} is not set: give the URL, or start Kaimai by \`kaimai up\``);
}

function seconds(given: string): number {
  const n = Number(given);
  if (n > 0 && n <= 3_600) return n;
  throw new InvalidArgumentError('seconds, at most 3600');
}

function limit(given: string): number {
  const n = Number(given);
  if (Number.isInteger(n) && n > 0 && n <= 10_000) return n;
  throw new InvalidArgumentError('a whole number from 1 to 10000 is needed');
}

function invariants(given: string): number[] {
  const numbers = new Set<number>();
  for (const part of given.split(',')) {
    const [, from, to] = /^(\d{1,2})(?:-(\d{1,2}))?$/.exec(part.trim()) ?? [];
    const [first, last] = [Number(from), Number(to ?? from)];
    for (let n = first; n <= last; n++) if (INVARIANTS.has(n)) numbers.add(n);
    if (!INVARIANTS.has(first) || !INVARIANTS.has(last) || first > last) {
      throw new InvalidArgumentError(`there are ${[...INVARIANTS.keys()].join(', ')}`);
    }
  }
  return [...numbers].sort((a, b) => a - b);
}
