/** The plans of docs/scaling.md in the simulation. */
import { type Form, simulate } from './growth-admission.js';
import { type Costs, slowed } from './growth-costs.js';
import { type SettlementForm, simulateSettlement } from './growth-settlement.js';
import { markdown, percent, round, settlementLimit } from './growth-tables.js';

/** The plans count with 150 µs of product for a purchase of a stream, an idle machine takes 51. */
const PLANNED = 150 / 51;

interface Plan {
  readonly name: string;
  readonly form: Form;
}

const plan = (perSecond: number, masters: number, workers: number, ms: number) => {
  return { masters, workers, perSecond, ms, way: 'stream', segments: 1, sales: masters, even: true } as const;
};
const SMALL = plan(20_000, 3, 5, 600);
const MIDDLE = plan(200_000, 19, 50, 500);
const LARGE = plan(2_000_000, 170, 500, 250);
const PLANS: readonly Plan[] = [
  { name: '20,000 of 3 sales', form: SMALL },
  { name: '20,000 of 3 sales, 8 in a message', form: { ...SMALL, workers: 3, way: 'stream of 8' } },
  { name: '20,000 of one sale', form: { ...SMALL, sales: 1 } },
  { name: '20,000 of one sale in 4 segments', form: { ...SMALL, sales: 1, segments: 4 } },
  { name: '200,000 of 19 sales', form: MIDDLE },
  { name: '200,000 of 19 sales, 8 in a message', form: { ...MIDDLE, workers: 30, way: 'stream of 8' } },
  { name: '200,000 of one sale in 32 segments', form: { ...MIDDLE, sales: 1, segments: 32 } },
  {
    name: '200,000 of one sale in 32 segments, 8 in a message',
    form: { ...MIDDLE, workers: 30, sales: 1, segments: 32, way: 'stream of 8' },
  },
  { name: '2,000,000 of 170 sales', form: LARGE },
  { name: '2,000,000 of 170 sales, 8 in a message', form: { ...LARGE, workers: 300, way: 'stream of 8' } },
  {
    name: '2,000,000 of one sale in 64 segments, 8 in a message',
    form: { ...LARGE, workers: 300, sales: 1, segments: 64, way: 'stream of 8' },
  },
];

export async function plansTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  for (const { name, form } of PLANS) {
    const { perSecond, p50Ms, p99Ms, perScript, productCpu, redisCpu } = await simulate(form, slowed(costs, PLANNED));
    rows.push([
      ...[name, String(form.masters), String(form.workers), round(perSecond), `${round(p50Ms)} / ${round(p99Ms)}`],
      ...[round(perScript), percent(productCpu.most), percent(redisCpu.most)],
    ]);
  }
  const head = [
    'asked for, a second',
    'masters',
    'workers',
    'answered, /s',
    'p50 / p99, ms',
    'purchases a script call',
  ];
  return markdown([...head, 'CPU of a worker', 'CPU of the busiest master'], rows);
}

const SETTLED: readonly { readonly name: string; readonly form: SettlementForm }[] = [1, 2, 3, 4, 19].flatMap(
  (sales) => {
    const sized = (name: string, consumers: number, cores: number, masters: number) => {
      return {
        name: `${name}: ${sales} ${sales === 1 ? 'sale' : 'sales'}`,
        form: { sales, consumers, cores, masters, segments: 1, ms: 8_000 },
      };
    };
    return sales === 19 ? [sized('25,000', 9, 8, 19)] : [sized('20,000', 7, 6, 3), sized('25,000', 9, 8, 19)];
  },
);

export async function plannedSettlementTable(costs: Costs): Promise<string> {
  const rows: string[][] = [];
  // The consumer and its relay take 200 µs of an order in the plans.
  const planned = { ...costs, settlement: { ...costs.settlement, node: 0.2 } };
  for (const { name, form } of [...SETTLED].sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))) {
    const figures = await simulateSettlement(form, planned);
    rows.push([
      name,
      String(form.consumers),
      String(form.cores),
      round(figures.perSecond),
      settlementLimit(form, figures),
    ]);
  }
  return markdown(['plan', 'consumers', 'cores of PostgreSQL', 'orders a second', 'limit'], rows);
}
