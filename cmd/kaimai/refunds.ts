import { Command, InvalidArgumentError, Option } from 'commander';
import { retryRefund } from '../../internal/biz/order/refund.js';
import type { Refund, RefundStatus } from '../../internal/biz/order/refund-state.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { PgRefundRepo } from '../../internal/data/postgres/refund.js';
import { errorText } from '../../internal/kratos/errors/error-text.js';
import { table } from '../../internal/local/table.js';
import { openPostgres } from './connections.js';

const STATUSES: readonly RefundStatus[] = ['REQUESTED', 'APPROVED', 'FAILED', 'REFUSED', 'DONE'];
const DEFAULT_LIMIT = 50;
const MOST = 10_000;

export const refundsCommand = new Command('refunds').description('show refunds, and start failed ones again');

refundsCommand
  .command('list')
  .description('list refunds, newest first')
  .addOption(new Option('--status <status>', 'only these').choices(STATUSES).default('FAILED'))
  .option('--limit <number>', 'how many', limit, DEFAULT_LIMIT)
  .action(({ status, limit: most }: { status: RefundStatus; limit: number }) =>
    withRefunds(async (_, refunds) => {
      const { items, total } = await refunds.list({ status }, { offset: 0, limit: most });
      console.log(items.length === 0 ? `no refunds are ${status}` : listText(items));
      if (total > BigInt(items.length)) console.log(`${total - BigInt(items.length)} more: --limit`);
    }),
  );

refundsCommand
  .command('retry')
  .description('start FAILED refunds again, once what made them fail is repaired')
  .argument('[ids...]', 'ids from `list`')
  .option('--all', `every FAILED refund (up to ${MOST})`)
  .action((given: string[], { all }: { all?: true }) =>
    withRefunds(async (db, refunds) => {
      if (given.length > 0 === (all === true)) throw new Error('give either ids or --all');
      const failed = all ? await refunds.list({ status: 'FAILED' }, { offset: 0, limit: MOST }) : undefined;
      const ids = failed?.items.map((r) => r.id) ?? given.map(idOf);
      if (ids.length === 0) console.log('no refunds are FAILED');
      for (const id of ids) {
        try {
          await retryRefund(db, refunds, id);
          console.log(`${id}: started again`);
        } catch (err) {
          // The others are started all the same.
          console.error(`${id}: ${errorText(err)}`);
          process.exitCode = 1;
        }
      }
    }),
  );

async function withRefunds(work: (db: Postgres, refunds: PgRefundRepo) => Promise<void>): Promise<void> {
  const db = openPostgres('refunds', 'kaimai_product');
  try {
    await work(db, new PgRefundRepo(db));
  } finally {
    await db.close();
  }
}

function listText(refunds: readonly Refund[]): string {
  const rows = refunds.map((r) => [
    String(r.id),
    `ORD${r.orderId}`,
    r.createdAt.toISOString().slice(0, 19).replace('T', ' '),
    r.kind,
    r.status,
    String(r.amountFen),
    String(r.attempts),
    r.lastError === '' ? r.reason : r.lastError,
  ]);
  return table(['id', 'order', 'created (UTC)', 'kind', 'status', 'fen', 'attempts', 'why'], rows);
}

function idOf(text: string): bigint {
  if (/^[1-9][0-9]{0,18}$/.test(text)) return BigInt(text);
  throw new Error(`${text} is not the id of a refund`);
}

function limit(text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= MOST) return n;
  throw new InvalidArgumentError(`expected a whole number from 1 to ${MOST}`);
}
