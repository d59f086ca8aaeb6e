import { setTimeout as sleep } from 'node:timers/promises';
import { Command, InvalidArgumentError } from 'commander';
import { type AuditReport, AuditUsecase, INVARIANTS } from '../../internal/biz/audit/audit.js';
import { parsePostgresUrl } from '../../internal/conf/postgres-url.js';
import { auditChecks } from '../../internal/data/postgres/audit/checks.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { type RetentionMark, retentionMarks } from '../../internal/data/postgres/retention/marks.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { type Fix, fixUnopenedOrders } from './audit-fix.js';
import { databasePooler, given, redisPlace, serverUrl } from './environment.js';

const CONNECT_TIMEOUT_MS = 10_000;
const REPLY_TIMEOUT_MS = 30_000;
const STATEMENT_TIMEOUT_MS = 300_000;
const DEFAULT_AGE_S = 30;
/** Exit status 1 means violations, so an audit that could not run needs another one. */
const NOT_RUN = 2;

interface Given {
  readonly live?: number | true;
  readonly only?: number[];
  readonly json?: true;
  readonly fix?: true;
  readonly yes?: true;
  readonly limit: number;
  readonly keyPrefix: string;
  readonly kubeconfig?: string;
  readonly namespace: string;
  readonly namespacePerUser?: true;
}

export const auditCommand = new Command('audit')
  .description(
    'check that nothing was lost, duplicated or oversold; exit 1 and list the violations if an invariant is broken',
  )
  .option(
    '--live [seconds]',
    `the system is running: report only violations that persist this long (default: ${DEFAULT_AGE_S})`,
    seconds,
  )
  .option('--only <numbers>', 'only these invariants, such as 1,2,5-7', invariants)
  .option('--fix', 'before the check, print which paid orders it would open the contents of')
  .option('--yes', 'with --fix: open them')
  .option('--json', 'print one JSON object instead of text')
  .option('--limit <number>', 'violations to list for each invariant', limit, 20)
  .option(
    '--kubeconfig <file>',
    'compare with the instances of this Kubernetes cluster (default: KAIMAI_RESOURCE_KUBERNETES_KUBECONFIG, or the simulator)',
  )
  .option('--namespace <name>', 'resource.kubernetes.namespace', 'kaimai-instances')
  .option('--namespace-per-user', 'resource.kubernetes.namespace_per_user')
  .option('--key-prefix <prefix>', 'data.redis.key_prefix of the product process', '')
  .action(async (options: Given) => {
    try {
      const report = await audit(options);
      console.log(
        options.json ? JSON.stringify({ ok: report.findings.length === 0, ...report }, null, 2) : text(report),
      );
      if (report.findings.length > 0) process.exitCode = 1;
    } catch (err) {
      console.error(`kaimai audit: ${errorText(err)}`);
      process.exitCode = NOT_RUN;
    }
  });

/** The report, and what retention deleted: the audit counts those rows as there. */
interface Report extends AuditReport {
  /** undefined: without --fix. */
  readonly fixes: readonly Fix[] | undefined;
  readonly retention: readonly RetentionMark[];
}

async function audit({ live, only, limit, keyPrefix, fix, yes, ...cluster }: Given): Promise<Report> {
  if (yes && !fix) throw new Error('--yes goes with --fix');
  const source = serverUrl('POSTGRES');
  // Of several hosts the primary; a single one may be a standby.
  const readsOnly = !yes && parsePostgresUrl(source).urls.length === 1;
  const db = new Postgres({
    source,
    pooler: databasePooler(),
    poolSize: 2,
    role: 'kaimai_product',
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    // Its transactions wait for Redis between two statements, and they lock nothing.
    idleInTransactionTimeoutMs: STATEMENT_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    target: readsOnly ? 'any' : 'read-write',
    applicationName: 'kaimai-audit',
  });
  const redis = new RedisServer({
    ...redisPlace(),
    readTimeoutMs: REPLY_TIMEOUT_MS,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    keyPrefix,
  });
  const provisioner = await clusterOf(cluster);
  try {
    await redis.ready(CONNECT_TIMEOUT_MS);
    const fixes = fix && (await fixUnopenedOrders(db, yes === true));
    const ageMs = live === undefined ? undefined : (live === true ? DEFAULT_AGE_S : live) * 1_000;
    const report = await new AuditUsecase(auditChecks(db, redis, provisioner), sleep).run({
      limit,
      ...(only && { only }),
      ...(ageMs !== undefined && { ageMs }),
    });
    return { ...report, retention: await retentionMarks(db), fixes };
  } finally {
    redis.close();
    await db.close();
    await provisioner?.close();
  }
}

/** undefined: the instances are those of the simulator. */
async function clusterOf({ namespace, namespacePerUser, ...options }: Pick<Given, 'namespace'> & Partial<Given>) {
  const kubeconfig = options.kubeconfig ?? given('KAIMAI_RESOURCE_KUBERNETES_KUBECONFIG');
  if (!kubeconfig) return undefined;
  const { KubernetesProvisioner } = await import('../../internal/data/kubernetes/provisioner.js');
  const settings = {
    ...{ kubeconfig, namespace, namespacePerUser: namespacePerUser ?? false, images: [], template: '' },
    ...{ readyTimeoutMs: 0, requestTimeoutMs: REPLY_TIMEOUT_MS, retryBudgetMs: CONNECT_TIMEOUT_MS },
    requests: { perSecond: 0, burst: 1 },
  };
  return new KubernetesProvisioner(settings, new SilentLogger(), new Metrics());
}

function text({ checked, findings, unchecked, retention, fixes = [] }: Report): string {
  const fixed = fixes.map(({ id, action, outcome }) => {
    return outcome === undefined ? `fix: ${id}: would ${action}` : `fix: ${id}: ${action}: ${outcome}`;
  });
  if (fixes.some((f) => f.outcome === undefined)) fixed.push('fix: nothing was changed; --yes does it');
  const found = findings.flatMap(({ invariant, rule, count, more, violations }) => [
    `${invariant}. VIOLATED: ${rule} (${count}${more ? ' or more' : ''})`,
    ...violations.map((v) => `   ${v.id}: ${v.detail}`),
    ...(count > violations.length ? [`   … and ${count - violations.length}${more ? ' or more' : ''} others`] : []),
  ]);
  const lines = [...fixed, ...found];
  for (const { invariant, id, detail } of unchecked) lines.push(`${invariant}. not checked: ${id}: ${detail}`);
  for (const { kind, rows, deletedBefore } of retention) {
    lines.push(`retention deleted ${rows} old rows of ${kind}, before ${deletedBefore.toISOString()}`);
  }
  const result = findings.length === 0 ? 'all hold' : `${findings.length} violated`;
  lines.push(`invariants ${checked.join(', ')}: ${result}`);
  return lines.join('\n');
}

function seconds(given: string): number {
  const n = Number(given);
  if (n > 0 && n <= 3_600) return n;
  throw new InvalidArgumentError('must be a number of seconds, at most 3600');
}

function limit(given: string): number {
  const n = Number(given);
  if (Number.isInteger(n) && n > 0 && n <= 10_000) return n;
  throw new InvalidArgumentError('must be an integer from 1 to 10000');
}

function invariants(given: string): number[] {
  const numbers = new Set<number>();
  for (const part of given.split(',')) {
    const [, from, to] = /^(\d{1,2})(?:-(\d{1,2}))?$/.exec(part.trim()) ?? [];
    const [first, last] = [Number(from), Number(to ?? from)];
    for (let n = first; n <= last; n++) if (INVARIANTS.has(n)) numbers.add(n);
    if (!INVARIANTS.has(first) || !INVARIANTS.has(last) || first > last) {
      throw new InvalidArgumentError(`the invariants are ${[...INVARIANTS.keys()].join(', ')}`);
    }
  }
  return [...numbers].sort((a, b) => a - b);
}
