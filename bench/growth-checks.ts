/** What the simulation says of runs that were measured. */
import { cpuOf, ID, latencyOf, SHARES_OF_PEAK } from './goals.js';
import { type Form, simulate } from './growth-admission.js';
import { type Costs, type Measured, slowed, type Way } from './growth-costs.js';
import { simulateSettlement } from './growth-settlement.js';
import { markdown } from './growth-tables.js';

/** As in bench/rates.ts: two workers, one Redis and the load on two cores. */
const BENCH = { masters: 1, segments: 1, sales: 1, workers: 2, cores: 2 } as const;
/** The caller of PurchaseStream has 1,024 in flight; 128 calls of `PurchaseBatch` are open, as of Purchase. */
const RATES = [
  { way: 'unary', id: ID.purchase, inFlight: 128, of: 'predicted' },
  { way: 'stream', id: ID.stream, inFlight: 1_024, of: "gave the client's CPU" },
  { way: 'stream of 8', id: ID.streamOf8, inFlight: 1_024, of: 'predicted' },
  { way: 'batch of 32', id: ID.batch, inFlight: 128 * 32, of: 'gave its CPU' },
] as const satisfies readonly { way: Way; id: string; inFlight: number; of: string }[];
/** h2load sends what is due in 10 ms together. */
const BURST_MS = 10;
/** Means of the two runs with 1, 2 and 3 masters in docs/scaling.md, CPU in µs. */
const ON_MASTERS = [
  { masters: 1, product: (189 + 96) / 2, redis: (56 + 36) / 2 },
  { masters: 2, product: (141 + 140) / 2, redis: (46 + 50) / 2 },
  { masters: 3, product: (96 + 86) / 2, redis: (39 + 39) / 2 },
] as const;

type Row = readonly [what: string, measured: number, model: number, unit: string, of: string];

export async function checks(measured: Measured, costs: Costs): Promise<string> {
  const rows: Row[] = [];
  for (const { way, id, inFlight, of } of RATES) {
    const form: Form = { ...BENCH, way, inFlight, ms: 1_000 };
    const figures = await simulate(form, costs);
    rows.push([`\`${id}\``, measured(id), figures.perSecond, '/s', of]);
    if (way === 'batch of 32') continue;
    const cpuUs = figures.productUs + figures.redisUs;
    rows.push([`\`${id}\`, CPU of product and Redis`, measured(cpuOf(id)), cpuUs, 'µs', 'gave the CPU of product']);
  }
  const perSecond = measured(ID.purchase);
  for (const share of SHARES_OF_PEAK) {
    const form: Form = { ...BENCH, way: 'unary', perSecond: perSecond * share, burstMs: BURST_MS, ms: 2_000 };
    const { p50Ms, p99Ms } = await simulate(form, costs);
    const what = (of: string) => `\`Purchase\`, ${of} at ${share * 100} % of its peak`;
    rows.push([what('p50'), measured(latencyOf(ID.purchase, share, 'p50')), p50Ms, 'ms', 'predicted']);
    rows.push([what('p99'), measured(latencyOf(ID.purchase, share, 'p99')), p99Ms, 'ms', 'predicted']);
  }
  const one = { consumers: 1, sales: 1, segments: 1, masters: 1, cores: 2, ms: 10_000, oneMachine: true };
  const settled = await simulateSettlement(one, costs);
  rows.push(['accepted → committed, one sale', measured(ID.settled), settled.perSecond, '/s', 'predicted']);
  rows.push(...(await mastersRows(costs)));
  const cells = rows.map(([what, was, is, unit, of]) => {
    const error = `${is < was ? '−' : '+'}${Math.round((Math.abs(is - was) / was) * 100)} %`;
    return [what, `${short(was)} ${unit}`, `${short(is)} ${unit}`, error, of];
  });
  return markdown(['run', 'measured', 'simulated', 'error', 'of the figure'], cells);
}

/** The machine of those runs was busy: one master of the simulation is given the same CPU of product, the rest follows. */
async function mastersRows(costs: Costs): Promise<Row[]> {
  const form = (masters: number): Form => {
    // Three loads of 1,024 each, on sales that lie on all masters evenly.
    return {
      masters,
      segments: 1,
      sales: 3,
      even: true,
      workers: 1,
      way: 'stream',
      inFlight: 3_072,
      ms: 4_000,
      cores: 2,
    };
  };
  const idle = await simulate(form(1), costs);
  const busy = slowed(costs, ON_MASTERS[0].product / idle.productUs);
  const rows: Row[] = [];
  for (const { masters, product, redis } of ON_MASTERS) {
    const figures = await simulate(form(masters), busy);
    const of = masters === 1 ? 'gave how busy the machine was' : 'predicted';
    const what = (part: string) => `CPU of ${part}, ${masters} ${masters === 1 ? 'master' : 'masters'}`;
    rows.push([what('product'), product, figures.productUs, 'µs', of]);
    rows.push([what('the masters'), redis, figures.redisUs, 'µs', 'predicted']);
  }
  return rows;
}

function short(value: number): string {
  return value >= 1_000 ? Math.round(value).toLocaleString('en-US') : value.toFixed(value < 100 ? 1 : 0);
}
