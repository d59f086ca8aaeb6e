import { Command, InvalidArgumentError } from 'commander';
import { table } from '../../internal/local/table.js';
import { openApi } from './connections.js';
import { ApiError } from './demo/client.js';

interface SaleReply {
  readonly itemId: string;
  readonly name: string;
  readonly status: string;
  readonly startsAt: string | null;
  readonly endsAt: string | null;
  readonly total: string;
  readonly sold: string;
  readonly remaining: string;
  readonly priceFen: string;
  readonly defaultLimit: number;
  readonly version: string;
}

interface VipLimitReply {
  readonly userId: string;
  readonly limit: number;
  readonly left: number;
  readonly version: string;
}

interface CreateOptions {
  readonly total: string;
  readonly price?: string;
  readonly name?: string;
  readonly starts?: string;
  readonly ends?: string;
  readonly limit?: number;
  readonly segments?: number;
}

interface UpdateOptions {
  readonly total?: string;
  readonly price?: string;
  readonly starts?: string;
  /** A time or "never". */
  readonly ends?: string;
  readonly limit?: number;
  readonly rate?: number;
}

const NEVER = 'never';
const LIST_LIMIT = 100;
const WATCH_INTERVAL_MS = 1_000;

export const saleCommand = new Command('sale').description('create, list, watch, change, open and close flash sales');

saleCommand
  .command('create <item>')
  .description('schedule a sale of an item (product or sku id)')
  .requiredOption('--total <units>', 'units to sell', decimal)
  .option('--price <fen>', 'unit price in fen (default: the price of the item)', decimal)
  .option('--name <name>', 'name of the sale')
  .option('--starts <time>', 'start, such as 2026-11-11T00:00:00+08:00 (default: now)', time)
  .option('--ends <time>', 'end (default: none)', time)
  .option('--limit <units>', 'units for each user (default: the default of the API)', wholeNumber)
  .option('--segments <number>', 'segments in Redis, for a hot item on a Redis Cluster (default: 1)', wholeNumber)
  .action(async (item: string, options: CreateOptions) => {
    const sale = await openApi().admin<SaleReply>('POST', '/v1/sales', {
      itemId: item,
      total: options.total,
      priceFen: options.price,
      name: options.name,
      startsAt: options.starts,
      endsAt: options.ends,
      defaultLimit: options.limit,
      segments: options.segments,
    });
    console.log(saleTable([sale]));
  });

saleCommand
  .command('list')
  .description('list the newest sales')
  .action(async () => {
    const { sales } = await openApi().admin<{ sales: SaleReply[] }>('GET', `/v1/sales?limit=${LIST_LIMIT}`);
    console.log(sales.length === 0 ? 'no sales' : saleTable(sales));
  });

saleCommand
  .command('watch <item>')
  .description('print the state of a sale whenever it changes, until the sale is closed')
  .action(async (item: string) => {
    let last = '';
    for (;;) {
      const sale = await openApi().admin<SaleReply>('GET', `/v1/sales/${encodeURIComponent(item)}`);
      const line = `${sale.status}: ${sale.sold} of ${sale.total} sold, ${sale.remaining} left`;
      if (line !== last) console.log(`${new Date().toISOString()} ${line}`);
      if (sale.status === 'CLOSED') return;
      last = line;
      await new Promise((resolve) => setTimeout(resolve, WATCH_INTERVAL_MS));
    }
  });

saleCommand
  .command('update <item>')
  .description('change the current sale of an item; the start and the price only before it is open')
  .option('--total <units>', 'units to sell in all, at least those that are sold or being sold', decimal)
  .option('--price <fen>', 'unit price in fen', decimal)
  .option('--starts <time>', 'start, such as 2026-11-11T00:00:00+08:00', time)
  .option('--ends <time>', 'end in the future, or "never"', timeOrNever)
  .option('--limit <units>', 'units for each user', wholeNumber)
  .option('--rate <users>', 'users that the waiting room admits per second; 0 for no waiting room', wholeNumber)
  .action(async (item: string, options: UpdateOptions) => {
    if (Object.keys(options).length === 0) throw new Error('nothing to change: give at least one option');
    const path = `/v1/sales/${encodeURIComponent(item)}`;
    const { version } = await openApi().admin<SaleReply>('GET', path);
    const sale = await openApi().admin<SaleReply>('PATCH', path, {
      version,
      total: options.total,
      priceFen: options.price,
      startsAt: options.starts,
      endsAt: options.ends === NEVER ? null : options.ends,
      defaultLimit: options.limit,
      admitRate: options.rate,
    });
    console.log(saleTable([sale]));
  });

for (const action of ['open', 'close'] as const) {
  saleCommand
    .command(`${action} <item>`)
    .description(`${action} the sale of an item`)
    .action(async (item: string) => {
      const path = `/v1/sales/${encodeURIComponent(item)}/${action}`;
      console.log(saleTable([await openApi().admin<SaleReply>('POST', path, {})]));
    });
}

saleCommand
  .command('limit <item> <user> <units>')
  .description('set the limit of one user in the current sale of an item')
  .action(async (item: string, user: string, units: string) => {
    const path = `/v1/sales/${encodeURIComponent(item)}/vip-limits/${encodeURIComponent(user)}`;
    const set = (version: string) =>
      openApi().admin<{ limit: number }>('PUT', path, { limit: wholeNumber(units), version });
    const { limit } = await set('0').catch((err: unknown) => {
      if (!(err instanceof ApiError) || err.reason !== 'SALE_VERSION_CONFLICT') throw err;
      // The user has a limit, which is replaced.
      return set(err.metadata.version ?? '0');
    });
    console.log(`user ${user} may buy ${limit} of item ${item}`);
  });

saleCommand
  .command('limits <item>')
  .description('list the users with a limit of their own in the sale of an item')
  .action(async (item: string) => {
    const rows: string[][] = [];
    for (;;) {
      const path = `/v1/sales/${encodeURIComponent(item)}/vip-limits?limit=${LIST_LIMIT}&offset=${rows.length}`;
      const { vipLimits } = await openApi().admin<{ vipLimits: VipLimitReply[] }>('GET', path);
      rows.push(...vipLimits.map((v) => [v.userId, String(v.limit), String(v.left), v.version]));
      if (vipLimits.length < LIST_LIMIT) break;
    }
    console.log(rows.length === 0 ? 'no limits' : table(['user', 'limit', 'left', 'version'], rows));
  });

function saleTable(sales: readonly SaleReply[]): string {
  const head = ['item', 'name', 'status', 'starts', 'ends', 'total', 'sold', 'left', 'price (fen)', 'limit'];
  const rows = sales.map((sale) => [
    sale.itemId,
    sale.name,
    sale.status,
    sale.startsAt ?? '',
    sale.endsAt ?? '',
    sale.total,
    sale.sold,
    sale.remaining,
    sale.priceFen,
    String(sale.defaultLimit),
  ]);
  return table(head, rows);
}

function decimal(text: string): string {
  if (/^[0-9]{1,18}$/.test(text)) return text;
  throw new InvalidArgumentError('expected a whole number');
}

function wholeNumber(text: string): number {
  return Number(decimal(text));
}

function timeOrNever(text: string): string {
  return text === NEVER ? NEVER : time(text);
}

function time(text: string): string {
  const parsed = new Date(text);
  if (Number.isNaN(parsed.getTime()))
    throw new InvalidArgumentError('expected a time such as 2026-11-11T00:00:00+08:00');
  return parsed.toISOString();
}
