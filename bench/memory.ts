/** Whether a long sale leaks memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { DEVELOPMENT_TOKEN } from '../internal/conf/defaults.js';
import { errorText } from '../internal/kratos/errors/error-text.js';
import type { Bench } from './bench.js';
import { medianOf } from './figures.js';
import { ID } from './goals.js';
import { causesOf, ghz, type Load, streamLoad } from './load.js';
import { COUNTS, memoryOf } from './processes.js';
import { type Sale, type Space, WORKERS } from './stage.js';

const CHUNKS = 10;
/** Share of unary calls; the others come over streams, which the sale of a million would otherwise wait for. */
const UNARY = 0.2;
/** With a chunk more, it is still below the backlog limit of admission. */
const MAX_BACKLOG = 50_000;
const SAMPLE_MS = 250;
const DRAIN_TIMEOUT_MS = 600_000;
const STREAM_TIMEOUT_MS = 60_000;
/** Users of unary calls are numbered from here in each chunk, as ghz forms them; those of streams follow. */
const CHUNK_USERS = 1_000_000_000;

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
  const product = await stage.service('product', space, {
    server: { workers: String(WORKERS) },
    // No process answers the requests for instances: sending them again would be work that a sale does not have.
    outbox: { resendAfter: '86400s' },
  });
  const sale = await stage.openSale(product, plan.longSale);
  const samples: Sample[] = [];
  const errors = new Map<string, number>();
  let sent = 0;
  const timer = setInterval(() => samples.push({ sent, bytes: memoryOf(product.pid) }), SAMPLE_MS);
  const buy = async (count: number, run: () => Promise<Load>) => {
    await backlogBelow(space, sale, MAX_BACKLOG);
    const load = await run();
    for (const [error, n] of Object.entries(load.errors)) errors.set(error, (errors.get(error) ?? 0) + n);
    sent += count;
  };
  try {
    const unary = Math.round((plan.longSale / CHUNKS) * UNARY);
    const streamed = plan.longSale / CHUNKS - unary;
    for (let chunk = 1; chunk <= CHUNKS; chunk++) {
      const scenario = { scenario: 'purchase', data: { item_id: String(sale.itemId) }, target: product.grpc };
      await buy(unary, () => ghz(program, { ...scenario, count: unary, run: chunk }));
      const stream = { target: product.grpc, token: DEVELOPMENT_TOKEN, itemId: sale.itemId, perMessage: 1 };
      const firstUser = chunk * CHUNK_USERS + unary + 1;
      await buy(streamed, () => streamLoad({ ...stream, count: streamed, firstUser, timeoutMs: STREAM_TIMEOUT_MS }));
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
  const failed = [...errors.values()].reduce((sum, n) => sum + n, 0);
  if (failed === 0) return;
  // The memory was measured all the same, but no purchase of a sale should fail.
  const why = `${failed} of ${plan.longSale} purchases failed: ${causesOf(Object.fromEntries(errors))}`;
  figures.skip(ID.memory, why);
  onLine(why);
}

async function backlogBelow({ redis }: Space, sale: Sale, limit: number): Promise<void> {
  const deadline = performance.now() + DRAIN_TIMEOUT_MS;
  while ((await redis.xlen(sale.keys.stream)) >= limit) {
    if (performance.now() > deadline) throw new Error('the purchases were not settled in time');
    await sleep(100);
  }
}
