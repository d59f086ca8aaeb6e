/**
 * `make bench`: measures Kaimai against its references and peers; see bench/README.md.
 *
 *     node dist/bench/main.js [--short] [--only rates,settlement,orders,calls,carts,joins,memory,instances,capacity] [--rounds N] [--seconds N] [--orders N] [--out folder]
 *     node dist/bench/main.js --growth
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot } from '../internal/local/project.js';
import type { Bench } from './bench.js';
import { measureCalls } from './calls.js';
import { measureCapacity } from './capacity.js';
import { measureCarts } from './carts.js';
import { Figures } from './figures.js';
import { simulateGrowth } from './growth.js';
import { measureHotSku } from './hot-sku.js';
import { measureInstances } from './instances.js';
import { latencyPicture } from './latency.js';
import { type Generators, generatorNames } from './load.js';
import { describeMachine, type Machine } from './machine.js';
import { measureMemory } from './memory.js';
import { obtainGhz, obtainH2load, obtainPeers } from './peers.js';
import { FULL, type Plan, SHORT } from './plan.js';
import { measureRates } from './rates.js';
import { measureReads } from './reads.js';
import { picture, table } from './report.js';
import { measureSettlement } from './settle.js';
import { Stage } from './stage.js';
import { findProgram } from './tool.js';

const PARTS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  rates: measureRates,
  settlement: measureSettlement,
  orders: measureHotSku,
  calls: measureCalls,
  carts: measureCarts,
  joins: measureReads,
  memory: measureMemory,
  instances: measureInstances,
};
/** Parts that run only when they are asked for. */
const OTHER_PARTS: typeof PARTS = { capacity: measureCapacity };
const RESULTS = join(projectRoot, 'bench/results');
const README = join(projectRoot, 'bench/README.md');
const MARKS = ['<!-- results -->', '<!-- /results -->'] as const;

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    only: { type: 'string', default: Object.keys(PARTS).join(',') },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    orders: { type: 'string' },
    out: { type: 'string', default: RESULTS },
    growth: { type: 'boolean', default: false },
  },
});
if (values.growth) {
  await simulateGrowth((line) => console.log(line));
  process.exit();
}
const base = values.short ? SHORT : FULL;
const plan: Plan = {
  ...base,
  rounds: Number(values.rounds ?? base.rounds),
  seconds: Number(values.seconds ?? base.seconds),
  joinOrders: Number(values.orders ?? base.joinOrders),
};
const parts = values.only.split(',').map((name) => {
  const all = { ...PARTS, ...OTHER_PARTS };
  const part = all[name];
  if (!part) throw new Error(`no part ${name}, only ${Object.keys(all).join(', ')}`);
  return part;
});

const onLine = (line: string) => console.log(line);
const figures = new Figures();
const machine = await describeMachine();
let generators: Generators = { ghz: undefined, h2load: undefined, redisBenchmark: undefined };
// Only the rates are compared with them.
const peers = await obtainPeers(plan.buildPeers && parts.includes(measureRates));
const stage = new Stage();
let interrupted = false;
let failed = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    interrupted = true;
    // The running measurement fails when its servers stop.
    void stage.end().finally(() => process.exit(1));
  });
}
try {
  await stage.start(onLine);
  // Not earlier: redis-benchmark comes with Redis, which the stage may have just installed.
  generators = await obtainGenerators();
  for (const part of parts) {
    await part({ stage, plan, peers, generators, figures, onLine }).catch((err: unknown) => {
      // What is measured is written all the same.
      if (interrupted) throw err;
      failed = true;
      console.error(err);
    });
  }
} finally {
  if (!interrupted) await stage.end();
}
write(machine);
if (failed) process.exitCode = 1;

async function obtainGenerators(): Promise<Generators> {
  const ghz = await obtainGhz(plan.buildPeers).catch((err: Error) => {
    onLine(`ghz cannot be had: ${err.message}`);
    return undefined;
  });
  return { ghz, h2load: await obtainH2load(plan.buildPeers, onLine), redisBenchmark: findProgram('redis-benchmark') };
}

function write(of: Machine): void {
  const date = new Date().toISOString().slice(0, 10);
  const result = {
    date,
    plan,
    machine: of,
    loadAfter: Math.round((loadavg()[0] ?? 0) * 100) / 100,
    generators: { ...generatorNames(generators), ghz: generators.ghz === undefined ? 'not available' : 'ghz' },
    figures,
    notMeasured: figures.skipped,
  };
  const title = `${date}, ${of.cores} cores, ${of.cpu}`;
  const drawn = picture(figures, title);
  const latencies = latencyPicture(figures, title);
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, `${date}.json`), `${JSON.stringify(result, undefined, 2)}\n`);
  writeFileSync(join(values.out, `${date}.svg`), drawn);
  if (latencies !== undefined) writeFileSync(join(values.out, `${date}-latency.svg`), latencies);
  const text = table(figures);
  console.log(`\n${text}\n\n${join(values.out, `${date}.json`)}`);
  // A partial run must not replace the published results.
  if (failed || values.out !== RESULTS || parts.length !== Object.keys(PARTS).length || plan.name !== 'full') return;
  const readme = readFileSync(README, 'utf8');
  const [from, to] = MARKS.map((mark) => readme.indexOf(mark));
  if (from === undefined || to === undefined || from < 0 || to < from) return;
  const told = `${describe(of)}\n\n${text}\n\n![Purchases per second](results/${date}.svg)\n\n![Latency](results/${date}-latency.svg)\n`;
  writeFileSync(README, `${readme.slice(0, from)}${MARKS[0]}\n${told}${readme.slice(to)}`);
}

function describe({ cpu, cores, memoryGiB, system, node, loadBefore, versions }: Machine): string {
  const servers = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  const names = generatorNames(generators);
  return [
    `Measured on ${cores} cores (${cpu}), ${memoryGiB} GiB, ${system}, Node ${node}, ${servers.join(', ')}.`,
    `Load of the machine before the run: ${loadBefore}. Unary calls by ${names.unary}, JSON by ${names.json}.`,
  ].join('\n');
}
