import { AuditCheck, type Look, type Offence } from '../../biz/audit/audit.js';
import type { PurchaseStream, StreamEntry } from '../../biz/seckill/purchase-stream.js';
import { type AdmissionSnapshot, type ExplainedDifference, explainedBy } from '../../biz/seckill/sale-balance.js';
import type { Sale } from '../../biz/seckill/sale-state.js';
import { decodeUnitsReturn, TOPIC_SECKILL_RETURN } from '../../biz/seckill/seckill-return.js';
import type { InboxRow, SettlementRepo } from '../../biz/seckill/settlement-state.js';
import type { Transaction } from '../../biz/transaction.js';
import { RedisPurchaseStream } from '../redis/purchase-stream.js';
import { orUnavailable, type RedisServer } from '../redis/redis.js';
import { saleKeys } from '../redis/seckill-keys.js';
import { onSnapshot } from './audit.js';
import type { Postgres, Statement } from './postgres.js';
import { SALE_COLUMNS, type SaleRow, saleOf } from './sale.js';
import { PgSettlementRepo } from './settlement.js';

/** Looks at a sale that moves, until it is left out of this audit. */
const ATTEMPTS = 8;
/** Users of one query. */
const PAGE = 2_000;

const OPEN_SALES: Statement = {
  name: 'audit_open_sales',
  text: `SELECT ${SALE_COLUMNS} FROM sales WHERE status = 1 ORDER BY id`,
};

const OPEN_SALE: Statement = {
  name: 'audit_open_sale',
  text: `SELECT ${SALE_COLUMNS}, (SELECT coalesce(sum(quantity), 0)::bigint FROM orders
      WHERE sale_id = sales.id AND status <> 2) AS live FROM sales WHERE id = $1 AND status = 1`,
};

const RETURNS: Statement = {
  name: 'audit_returns',
  text: `SELECT payload FROM outbox WHERE topic = '${TOPIC_SECKILL_RETURN}' AND published_at IS NULL`,
};

const BUYERS_AFTER: Statement = {
  name: 'audit_buyers_after',
  text: `SELECT user_id, sum(quantity)::int AS units FROM orders
    WHERE sale_id = $1 AND status <> 2 AND user_id > $2 GROUP BY user_id ORDER BY user_id LIMIT ${PAGE}`,
};

const UNITS_OF: Statement = {
  name: 'audit_units_of',
  text: `SELECT DISTINCT user_id FROM orders WHERE sale_id = $1 AND status <> 2 AND user_id = ANY($2::uuid[])`,
};

const NOBODY = '00000000-0000-0000-0000-000000000000';

/** What both sides say of a running sale, read so that it fits together. */
interface Reading {
  readonly sale: Sale;
  readonly live: bigint;
  /** undefined: admission has not loaded the sale. */
  readonly snapshot: AdmissionSnapshot | undefined;
  /** Units that admission has taken and PostgreSQL does not count as sold, by user. */
  readonly explained: readonly ExplainedDifference[];
}

class SaleReader {
  private readonly stream: PurchaseStream;
  private readonly settlements: SettlementRepo;

  constructor(
    readonly db: Postgres,
    readonly server: RedisServer,
  ) {
    this.stream = new RedisPurchaseStream(server);
    this.settlements = new PgSettlementRepo(db);
  }

  async openSales(): Promise<readonly Sale[]> {
    return (await this.db.query<SaleRow>(OPEN_SALES, [])).rows.map(saleOf);
  }

  /** undefined: it is open no more. moved: admission was at work in between, so that this is no one moment's state. */
  async read(sale: Sale): Promise<{ reading: Reading | undefined; moved: boolean }> {
    const before = await this.mark(sale.itemId);
    const { entries } = await this.stream.waiting(sale.itemId);
    const reading = await onSnapshot(this.db, (tx) => this.readBoth(tx, sale, before, entries));
    const after = await this.mark(sale.itemId);
    return { reading, moved: before.text !== after.text };
  }

  private async readBoth(
    tx: Transaction,
    { id, itemId }: Sale,
    mark: Mark,
    entries: readonly StreamEntry[],
  ): Promise<Reading | undefined> {
    const [row] = (await this.db.query<SaleRow & { live: bigint }>(OPEN_SALE, [id], tx)).rows;
    if (!row) return undefined;
    const sale = saleOf(row);
    if (mark.epoch !== sale.epoch || mark.stock === undefined) {
      return { sale, live: row.live, snapshot: undefined, explained: [] };
    }
    const snapshot: AdmissionSnapshot = { epoch: mark.epoch, stock: mark.stock, fence: mark.fence, entries };
    const outcomes = new Map<string, InboxRow>();
    for (let i = 0; i < entries.length; i += PAGE) {
      const ids = entries.slice(i, i + PAGE).map((e) => e.streamId);
      for (const outcome of await this.settlements.findRows(tx, itemId, ids)) outcomes.set(outcome.streamId, outcome);
    }
    const explained = [...explainedBy(sale, snapshot, outcomes), ...(await this.explainedByReturns(tx, sale))];
    return { sale, live: row.live, snapshot, explained };
  }

  /** Units of cancelled orders that admission has not been given back. */
  private async explainedByReturns(tx: Transaction, sale: Sale): Promise<readonly ExplainedDifference[]> {
    const { rows } = await this.db.query<{ payload: Buffer }>(RETURNS, [], tx);
    const returns = rows
      .map((row) => decodeUnitsReturn(row.payload.toString()))
      .filter((r) => r.itemId === sale.itemId && r.epoch === sale.epoch);
    if (returns.length === 0) return [];
    const { returned } = saleKeys(this.server.keyPrefix, sale.itemId);
    const done = await orUnavailable(
      this.server.commands.smismember(returned, ...returns.map((r) => String(r.orderId))),
    );
    return returns
      .filter((_, i) => done[i] === 0)
      .map(({ userId, quantity }) => ({ userId, stockUnits: quantity, buyerUnits: quantity }));
  }

  /** Whatever admission, a settlement or a return changes is in this, at one moment. */
  private async mark(itemId: bigint): Promise<Mark> {
    const keys = saleKeys(this.server.keyPrefix, itemId);
    const replies = await orUnavailable(
      this.server.commands
        .multi()
        .hmget(keys.meta, 'epoch', 'fence')
        .get(keys.stock)
        .get(keys.req)
        .scard(keys.returned)
        .xlen(keys.stream)
        .xrevrange(keys.stream, '+', '-', 'COUNT', 1)
        .exec(),
    );
    const values = (replies ?? []).map(([err, value]) => {
      if (err) throw err;
      return value;
    });
    const [[epoch, fence], stock] = values as [[string | null, string | null], string | null];
    return {
      text: JSON.stringify(values),
      epoch: epoch === null ? undefined : BigInt(epoch),
      stock: stock === null ? undefined : BigInt(stock),
      fence: fence ?? '0-0',
    };
  }
}

interface Mark {
  readonly text: string;
  readonly epoch: bigint | undefined;
  readonly stock: bigint | undefined;
  readonly fence: string;
}

class BalanceCheck extends AuditCheck {
  override readonly invariant = 2;

  constructor(private readonly reader: SaleReader) {
    super();
  }

  override async look(limit: number): Promise<Look> {
    const offences: Offence[] = [];
    const unchecked: Offence[] = [];
    for (const sale of await this.reader.openSales()) {
      if (offences.length >= limit) break;
      const id = `sale ${sale.id}`;
      const reading = await this.steady(sale);
      if (reading === 'moving') unchecked.push({ id, detail: 'it sells while it is counted' });
      else if (reading !== undefined) {
        const detail = imbalanceOf(reading);
        if (detail !== undefined) offences.push({ id, detail });
      }
    }
    return { offences, unchecked };
  }

  private async steady(sale: Sale): Promise<Reading | undefined | 'moving'> {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const { reading, moved } = await this.reader.read(sale);
      if (!moved) return reading;
    }
    return 'moving';
  }
}

function imbalanceOf({ sale, live, snapshot, explained }: Reading): string | undefined {
  if (!snapshot) return `admission does not have it under epoch ${sale.epoch}`;
  const waiting = explained.reduce((sum, e) => sum + BigInt(e.stockUnits), 0n);
  const sum = snapshot.stock + live + waiting;
  if (sum === sale.total && snapshot.stock >= 0n) return undefined;
  return `${snapshot.stock} in Redis, ${live} live, ${waiting} waiting or on their way back: ${sum} of ${sale.total}`;
}

class BuyersCheck extends AuditCheck {
  override readonly invariant = 3;

  constructor(private readonly reader: SaleReader) {
    super();
  }

  override async look(limit: number): Promise<Look> {
    const offences: Offence[] = [];
    for (const sale of await this.reader.openSales()) {
      if (offences.length >= limit) break;
      const { reading } = await this.reader.read(sale);
      if (reading?.snapshot) await this.compare(reading, offences, limit);
    }
    return { offences: offences.slice(0, limit) };
  }

  private async compare({ sale, explained }: Reading, offences: Offence[], limit: number): Promise<void> {
    const { db, server } = this.reader;
    const { buyers } = saleKeys(server.keyPrefix, sale.itemId);
    const explainedOf = new Map<string, number>();
    for (const { userId, buyerUnits } of explained) {
      explainedOf.set(userId, (explainedOf.get(userId) ?? 0) + buyerUnits);
    }
    const judge = (userId: string, live: number, has: number): void => {
      const expected = live + (explainedOf.get(userId) ?? 0);
      if (has === expected) return;
      offences.push({
        id: `user ${userId} of sale ${sale.id}`,
        detail: `${has} in Redis' buyers, ${expected} by orders and entries`,
      });
    };
    const known = new Set<string>();
    for (let after = NOBODY; offences.length < limit; ) {
      const { rows } = await db.query<{ user_id: string; units: number }>(BUYERS_AFTER, [sale.id, after]);
      if (rows.length === 0) break;
      const users = rows.map((row) => row.user_id);
      const there = await orUnavailable(server.commands.hmget(buyers, ...users));
      for (const [i, row] of rows.entries()) judge(row.user_id, row.units, Number(there[i] ?? 0));
      for (const user of users) if (explainedOf.has(user)) known.add(user);
      after = users.at(-1)!;
    }
    // Those that have no order: in Redis, or waiting.
    for (let cursor = '0'; offences.length < limit; ) {
      const [next, flat] = await orUnavailable(server.commands.hscan(buyers, cursor, 'COUNT', PAGE));
      const has = new Map(Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, Number(flat[2 * i + 1])]));
      const { rows } = await db.query<{ user_id: string }>(UNITS_OF, [sale.id, [...has.keys()]]);
      const live = new Set(rows.map((row) => row.user_id));
      for (const [userId, units] of has) {
        known.add(userId);
        if (!live.has(userId)) judge(userId, 0, units);
      }
      cursor = next;
      if (cursor === '0') break;
    }
    for (const userId of explainedOf.keys()) if (!known.has(userId)) judge(userId, 0, 0);
  }
}

/** The rules that hold PostgreSQL against Redis, of sales that run. */
export function saleChecks(db: Postgres, server: RedisServer): readonly AuditCheck[] {
  const reader = new SaleReader(db, server);
  return [new BalanceCheck(reader), new BuyersCheck(reader)];
}
