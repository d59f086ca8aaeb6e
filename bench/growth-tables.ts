/** The tables of the simulation, in Markdown. */
import { formatUserId } from '../internal/biz/identity.js';
import { homeSegment } from '../internal/biz/seckill/segment.js';
import { type Figures, type Form, simulate } from './growth-admission.js';
import type { Costs, Way } from './growth-costs.js';
import { masterOf } from './growth-redis.js';
import { type SettlementFigures, type SettlementForm, simulateSettlement } from './growth-settlement.js';

export const MASTERS = [1, 2, 3, 6, 12] as const;
export const SEGMENTS = [1, 2, 4, 8, 16] as const;
/** The share of its peak at which the latency of a form is given, as in the plans. */
const PLANNED = 0.6;
/** A busy part counts as the limit from here on. */
const FULL = 0.9;

export function markdown(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** Rounded to two digits, since no third one is worth anything. */
export function round(value: number): string {
  if (!(value > 0)) return '0';
  const unit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return (Math.round(value / unit) * unit).toLocaleString('en-US', { maximumFractionDigits: 1 });
}

export const percent = (share: number) => `${Math.min(100, Math.round(share * 100))} %`;

export function limitOf({ product, redis }: Figures): string {
  if (Math.max(product.most, redis.most) < FULL) return 'waiting for calls in flight';
  return redis.most > product.most ? 'busiest master' : 'product';
}

/** One sale, so much product that Redis is the limit: purchases a second, and how busy an average master is then. */
export async function segmentsTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  for (const masters of MASTERS) {
    const cells: string[] = [];
    for (const segments of SEGMENTS) {
      const workers = 4 * Math.min(masters, segments);
      const form: Form = { masters, segments, sales: 1, workers, way: 'stream', inFlight: 512 * workers, ms: 300 };
      const { perSecond, redis } = await simulate(form, costs);
      cells.push(`${round(perSecond)} (${percent(redis.mean)})`);
    }
    rows.push([String(masters), ...cells]);
  }
  return markdown(['masters', ...SEGMENTS.map((n) => (n === 1 ? 'no segments' : `${n} segments`))], rows);
}

/** Workers of product in front of three masters: the peak, what limits it, and latencies at 60 % of it. */
export async function workersTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  for (const way of ['unary', 'stream'] as const satisfies readonly Way[]) {
    for (const segments of [1, 4] as const) {
      for (const workers of [1, 2, 4, 8, 16, 32]) {
        const form = { masters: 3, segments, sales: 1, workers, way };
        const peak = await simulate({ ...form, inFlight: 512 * workers, ms: 400 }, costs);
        const planned = await simulate({ ...form, perSecond: peak.perSecond * PLANNED, ms: 250 }, costs);
        rows.push([
          ...[way === 'unary' ? '`Purchase`' : '`PurchaseStream`', String(segments), String(workers)],
          ...[round(peak.perSecond), limitOf(peak), round(planned.perScript)],
          ...[`${round(planned.p50Ms)} / ${round(planned.p99Ms)}`, round(planned.redisUs)],
        ]);
      }
    }
  }
  const head = ['purchases by', 'segments', 'workers', 'peak, /s', 'limit'];
  return markdown([...head, 'purchases a script call', 'p50 / p99, ms', 'Redis, µs each'], rows);
}

const USERS = 20_000;
const ITEMS = 300;

/** How much more than its share the busiest one has: segments by their users, masters by their segments. */
export function imbalanceTable(): string {
  const users = Array.from({ length: USERS }, (_, i) => formatUserId(String(i + 1)));
  const shares = (counts: readonly number[], all: number) => (Math.max(...counts) * counts.length) / all;
  const rows = SEGMENTS.map((segments) => {
    const homes = new Array<number>(segments).fill(0);
    for (const user of users) homes[homeSegment(user, segments)]! += 1;
    const cells = MASTERS.filter((masters) => masters > 1).map((masters) => {
      const found = Array.from({ length: ITEMS }, (_, item) => {
        const counts = new Array<number>(masters).fill(0);
        for (let k = 0; k < segments; k++) counts[masterOf(BigInt(1_000 + item), k, masters)]! += 1;
        return shares(counts, segments);
      });
      const mean = found.reduce((a, b) => a + b, 0) / found.length;
      return `${mean.toFixed(2)} / ${Math.max(...found).toFixed(2)}`;
    });
    return [String(segments), shares(homes, USERS).toFixed(2), ...cells];
  });
  const masters = MASTERS.filter((n) => n > 1).map((n) => `busiest of ${n} masters`);
  return markdown(['segments', 'busiest segment', ...masters], rows);
}

const LAST_UNITS = 10_000;
const ASKED = 20_000;

/** A sale of 10,000 units on three masters, asked for 20,000 times a second until after its end. */
export async function lastUnitsTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  for (const way of ['unary', 'stream'] as const satisfies readonly Way[]) {
    for (const segments of SEGMENTS) {
      const form: Form = {
        masters: 3,
        segments,
        sales: 1,
        workers: 8,
        way,
        perSecond: ASKED,
        units: LAST_UNITS,
        ms: 800,
      };
      const { queued, otherCalls, p99Ms, lastUnitMs } = await simulate(form, costs);
      if (queued !== LAST_UNITS) throw new Error(`${queued} of ${LAST_UNITS} units were sold in ${segments} segments`);
      const longer = Math.max(0, lastUnitMs - (LAST_UNITS / ASKED) * 1e3);
      rows.push([
        way === 'unary' ? '`Purchase`' : '`PurchaseStream`',
        String(segments),
        String(otherCalls),
        round(p99Ms),
        round(longer),
      ]);
    }
  }
  return markdown(
    ['purchases by', 'segments', 'scripts that look or move units', 'p99, ms', 'last unit late by, ms'],
    rows,
  );
}

export function settlementLimit(form: SettlementForm, { lock, postgres, consumers }: SettlementFigures): string {
  const parts = [
    [form.sales === 1 ? 'the one backend of the sale' : 'one backend for each sale', lock],
    [`PostgreSQL's ${form.cores} cores`, postgres],
    ['consumers', consumers],
  ] as const;
  return parts.reduce((most, part) => (part[1] > most[1] ? part : most))[0];
}

export async function settlementTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  for (const [sales, segments, consumers, cores] of [
    [1, 1, 1, 8],
    [1, 1, 4, 8],
    [1, 8, 4, 8],
    [2, 1, 4, 8],
    [4, 1, 1, 8],
    [4, 1, 2, 8],
    [4, 1, 4, 8],
    [8, 1, 8, 8],
    [8, 1, 8, 16],
    [16, 1, 8, 16],
  ] as const) {
    const form: SettlementForm = { sales, segments, consumers, cores, masters: 6, ms: 6_000 };
    const figures = await simulateSettlement(form, costs);
    rows.push([
      ...[sales, segments, consumers, cores].map(String),
      ...[round(figures.perSecond), settlementLimit(form, figures)],
      ...[figures.lock, figures.postgres, figures.consumers].map(percent),
    ]);
  }
  const head = ['sales', 'segments of each', 'consumers', 'cores of PostgreSQL', 'orders a second', 'limit'];
  return markdown([...head, "a sale's lock held", 'PostgreSQL busy', 'consumers busy'], rows);
}
