/** Whether a long sale leaks memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../internal/kratos/errors/error-text.js';
import type { Bench } from './bench.js';
import { medianOf } from './figures.js';
import { ID } from './goals.js';
import { ghz } from './load.js';
import { COUNTS, memoryOf } from './processes.js';
import { type Sale, type Space, WORKERS } from './stage.js';

const CHUNK = 50_000;
/** Below the backlog limit of admission. */
const MAX_BACKLOG = 100_000;
const SAMPLE_MS = 1_000;
const DRAIN_TIMEOUT_MS = 600_000;

interface Sample {
  /** Purchases sent so far. */
  readonly sent: number;
  readonly bytes: number;
}

/** Memory of all worker processes while they admit, settle and publish: the last fifth compared with the second. */
export async function measureMemory(bench: Bench): Promise<void> {
  const { stage, plan, generators, figures, onLine } = bench;
  const program = generators.ghz;
  if (program === undefined || !COUNTS) {
    figures.skip(ID.memory, 'needs ghz and /proc');
    return;
  }
  const space = await stage.space();
  const product = await stage.service('product', space, { server: { workers: String(WORKERS) } });
  const sale = await stage.openSale(product, plan.longSale);
  const samples: Sample[] = [];
  let sent = 0;
  const timer = setInterval(() => samples.push({ sent, bytes: memoryOf(product.pid) }), SAMPLE_MS / 4);
  try {
    while (sent < plan.longSale) {
      const count = Math.min(CHUNK, plan.longSale - sent);
      const scenario = { scenario: 'purchase', data: { item_id: String(sale.itemId) }, target: product.grpc };
      const load = await ghz(program, { ...scenario, count, run: 1 + sent / CHUNK });
      if (load.failed > 0) throw new Error(`${load.failed} of ${count} calls failed`);
      sent += count;
      await backlogBelow(space, sale, MAX_BACKLOG);
    }
    await backlogBelow(space, sale, 1);
  } catch (err) {
    figures.skip(ID.memory, errorText(err));
    return;
  } finally {
    clearInterval(timer);
    await product.stop();
  }
  const between = (from: number, to: number) =>
    medianOf(samples.filter((s) => s.sent >= from * plan.longSale && s.sent <= to * plan.longSale).map((s) => s.bytes));
  const [early, late] = [between(0.2, 0.4), between(0.8, 1)];
  if (early === undefined || late === undefined) {
    figures.skip(ID.memory, 'the sale was too short to sample');
    return;
  }
  figures.add(ID.memory, late / early);
  onLine(
    `memory ${(early / 2 ** 20).toFixed(0)} MiB in the second fifth, ${(late / 2 ** 20).toFixed(0)} MiB in the last`,
  );
}

async function backlogBelow({ redis }: Space, sale: Sale, limit: number): Promise<void> {
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  while ((await redis.xlen(sale.keys.stream)) >= limit) {
    if (performance.now() > deadline) throw new Error('the purchases were not settled in time');
    await sleep(100);
  }
}
