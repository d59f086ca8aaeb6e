import { Command, InvalidArgumentError } from 'commander';
import { backlogs, openSales } from '../../internal/data/postgres/operations.js';
import { RedisAdmission } from '../../internal/data/redis/admission.js';
import { RedisPurchaseStream } from '../../internal/data/redis/purchase-stream.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { table } from '../../internal/local/table.js';
import { openPostgres, openRedis } from './connections.js';

const PROCESSES = ['product', 'resource'] as const;
const READY_TIMEOUT_MS = 2_000;
const DEFAULT_STUCK_S = 60;

interface StatusOptions {
  readonly stuck: number;
  readonly keyPrefix: string;
}

export const statusCommand = new Command('status')
  .description('show processes, backlogs with their age, open sales and what is stuck; exit with 1 if something is')
  .option('--stuck <seconds>', 'age from which waiting work counts as stuck', seconds, DEFAULT_STUCK_S)
  .option('--key-prefix <prefix>', 'data.redis.key_prefix in the configuration of product', '')
  .action(async ({ stuck, keyPrefix }: StatusOptions) => {
    const processes = await Promise.all(PROCESSES.map(readiness));
    console.log(table(['process', 'state'], processes));
    const db = openPostgres('status', 'kaimai_product');
    const redis = await openRedis(keyPrefix);
    const admission = new RedisAdmission(redis);
    const stream = new RedisPurchaseStream(redis);
    try {
      const now = Date.now();
      const rows: string[][] = [];
      let stuckCount = processes.filter(([, state]) => state !== 'ready').length;
      const add = (name: string, count: bigint | number, oldest: Date | undefined) => {
        const ageS = oldest && Math.max(0, Math.round((now - oldest.getTime()) / 1_000));
        const isStuck = ageS !== undefined && ageS >= stuck;
        if (isStuck) stuckCount++;
        rows.push([name, String(count), ageS === undefined ? '' : `${ageS} s`, isStuck ? 'stuck' : '']);
      };
      for (const { name, count, oldest } of await backlogs(db)) add(name, count, oldest);
      const sales: string[][] = [];
      for (const sale of await openSales(db)) {
        const { itemId, segments } = sale;
        const { loaded, backlog } = await admission.state(itemId, segments);
        const oldestId = (await stream.oldest(itemId, segments))?.streamId;
        add(`purchases of item ${itemId}`, backlog, oldestId ? new Date(Number(oldestId.split('-')[0])) : undefined);
        sales.push([
          String(sale.itemId),
          sale.name,
          String(sale.total),
          String(sale.sold),
          loaded === undefined ? 'not loaded' : String(loaded.stock),
          sale.endsAt?.toISOString() ?? '',
        ]);
      }
      console.log(`\n${table(['backlog', 'waiting', 'oldest', ''], rows)}`);
      const head = ['open sale', 'name', 'total', 'sold', 'left to admit', 'ends'];
      console.log(`\n${sales.length === 0 ? 'no open sales' : table(head, sales)}`);
      if (stuckCount > 0) process.exitCode = 1;
    } finally {
      redis.close();
      await db.close();
    }
  });

async function readiness(name: (typeof PROCESSES)[number]): Promise<[string, string]> {
  const variable = `KAIMAI_${name.toUpperCase()}_METRICS`;
  const address = process.env[variable];
  if (!address) return [name, `unknown: ${variable} is not set`];
  try {
    const reply = await fetch(`http://${address}/readyz`, { signal: AbortSignal.timeout(READY_TIMEOUT_MS) });
    await reply.body?.cancel();
    return [name, reply.ok ? 'ready' : `not ready (HTTP ${reply.status})`];
  } catch (err) {
    return [name, `no answer: ${errorText((err as Error).cause ?? err)}`];
  }
}

function seconds(text: string): number {
  const n = Number(text);
  if (n > 0 && n <= 86_400) return n;
  throw new InvalidArgumentError('expected seconds, at most 86400');
}
