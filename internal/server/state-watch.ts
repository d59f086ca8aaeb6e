import type { Admission } from '../biz/seckill/admission.js';
import type { SalesState, SaleUnits, StateCounts } from '../biz/state-counts.js';
import { Loop } from '../kratos/background/loop.js';
import type { Logger } from '../kratos/log/logger.js';
import type { Labels, Metrics, Scraped } from '../kratos/metrics/metrics.js';

const INTERVAL_MS = 5_000;
/** Sales whose units are exported one by one. Each is a few series, which every scrape carries. */
const MAX_SALES = 50;
/** Counting the orders of a day reads all of them, so it may take a twentieth of the time. */
const ORDERS_INTERVAL_MS = 15_000;
const ORDERS_SHARE = 20;

interface Sales extends SalesState {
  /** Units left to admit, by item; absent where Redis does not say. */
  readonly left: ReadonlyMap<bigint, number>;
}

/** What was counted last; undefined after a failure, because an old number looks like a true one. */
interface Counted {
  orders?: Readonly<Record<string, number>> | undefined;
  refunds?: Readonly<Record<string, number>> | undefined;
  deadLetters?: Readonly<Record<string, number>> | undefined;
  sales?: Sales | undefined;
}

/**
 * Exports how many orders, refunds, dead letters and sales there are, by state. Each replica counts the same, so the
 * gauges are compared by maximum and never added up.
 */
export function stateWatch(
  counts: StateCounts,
  admission: Admission,
  metrics: Metrics,
  logger: Logger,
  { intervalMs = INTERVAL_MS } = {},
): Loop {
  const counted: Counted = {};
  exportState(counted, metrics);
  let ordersAtMs = Number.NEGATIVE_INFINITY;

  const countOrders = async () => {
    const startedMs = performance.now();
    if (startedMs < ordersAtMs) return counted.orders;
    const orders = await counts.orders();
    const endedMs = performance.now();
    ordersAtMs = endedMs + Math.max(ORDERS_INTERVAL_MS, ORDERS_SHARE * (endedMs - startedMs));
    return orders;
  };
  const countSales = async (): Promise<Sales> => {
    const sales = await counts.sales(MAX_SALES);
    return { ...sales, left: await unitsLeft(sales.current, admission) };
  };

  return new Loop({
    name: 'state_watch',
    idleMs: intervalMs,
    maxStallMs: intervalMs,
    logger,
    round: async () => {
      const failures: unknown[] = [];
      const count = async <T>(read: () => Promise<T>) => {
        try {
          return await read();
        } catch (err) {
          failures.push(err);
          return undefined;
        }
      };
      counted.orders = await count(countOrders);
      counted.refunds = await count(() => counts.openRefunds());
      counted.deadLetters = await count(() => counts.deadLetters());
      counted.sales = await count(countSales);
      // After the others were counted. The loop counts and logs it.
      if (failures.length > 0) throw failures[0];
      return 0;
    },
  });
}

async function unitsLeft(sales: readonly SaleUnits[], admission: Admission): Promise<ReadonlyMap<bigint, number>> {
  const left = new Map<bigint, number>();
  for (const { itemId, segments, status } of sales) {
    if (status !== 'OPEN') continue;
    try {
      const { loaded } = await admission.state(itemId, segments);
      if (loaded) left.set(itemId, Number(loaded.stock));
    } catch {
      // The sale keeper logs and counts the failures of Redis; the rest is counted without it.
      break;
    }
  }
  return left;
}

function exportState(counted: Counted, metrics: Metrics): void {
  const gauge = (name: string, help: string, read: () => Scraped) => metrics.gauge(name, help, 'max', read);
  gauge('orders', 'Orders of the last 24 hours, by status.', () => by('status', counted.orders));
  gauge(
    'refunds',
    'Refunds that wait: REQUESTED for a decision, APPROVED for the payout, FAILED for an operator.',
    () => by('status', counted.refunds),
  );
  gauge('dead_letters', 'Dead letters that no operator has resolved, by domain.', () =>
    by('domain', counted.deadLetters),
  );
  gauge('sales', 'Flash sales, by status.', () => by('status', counted.sales?.byStatus));
  gauge('sales_late', 'Flash sales past their start that are not open, and past their end that are not closed.', () => {
    if (!counted.sales) return [];
    return by('action', { open: counted.sales.lateToOpen, close: counted.sales.lateToClose });
  });
  gauge('sale_status', `1 for the status of each sale that is open or opens within a day, at most ${MAX_SALES}.`, () =>
    (counted.sales?.current ?? []).map(({ itemId, status }) => [{ item_id: String(itemId), status }, 1]),
  );
  gauge(
    'sale_units',
    `Units of each of these sales: total, sold (by PostgreSQL), left (that Redis may still admit; below 0 after entries that took more than there was).`,
    () => unitsOf(counted.sales),
  );
}

function* unitsOf(sales: Sales | undefined): Iterable<readonly [Labels, number]> {
  for (const { itemId, total, sold } of sales?.current ?? []) {
    const label = (kind: string) => ({ item_id: String(itemId), kind });
    yield [label('total'), total];
    yield [label('sold'), sold];
    const left = sales?.left.get(itemId);
    if (left !== undefined) yield [label('left'), left];
  }
}

function by(label: string, counts: Readonly<Record<string, number>> | undefined): (readonly [Labels, number])[] {
  return Object.entries(counts ?? {}).map(([value, count]) => [{ [label]: value }, count] as const);
}
