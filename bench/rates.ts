/** Purchases per second: of Kaimai, of its peers, and of the references. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PurchaseBatchRequest, PurchaseBatchRequest_Purchase, PurchaseRequest } from '../gen/seckill/v1/seckill.js';
import { formatUserId } from '../internal/biz/identity.js';
import { DEVELOPMENT_TOKEN } from '../internal/conf/defaults.js';
import { projectRoot } from '../internal/local/project.js';
import type { Bench } from './bench.js';
import { interleave, type Measure } from './figures.js';
import { cpuOf, ID } from './goals.js';
import { measureLatency } from './latency.js';
import { ghz, jsonLoad, type Load, redisBenchmark, requireNoFailures, streamLoad, unaryLoad } from './load.js';
import { COUNTS, cpuSecondsOf } from './processes.js';
import {
  ADMIT_FILE,
  admitSha,
  type Listening,
  NO_BACKLOG_LIMIT,
  type Sale,
  type Space,
  type Stage,
  takeAdmitted,
  WORKERS,
} from './stage.js';

const UNITS = 100_000_000;
const PURCHASE = '/seckill.v1.SeckillService/Purchase';

const PURCHASE_BATCH = '/seckill.v1.SeckillService/PurchaseBatch';
/** Purchases per PurchaseBatch: the clicks of a few milliseconds. */
const BATCH = 32;

interface Target {
  readonly id: string;
  readonly ghzId: string;
  readonly addr: string;
  readonly pid: number;
  readonly sale: Sale;
  /** Whether every reply is an admitted purchase, or none is. */
  readonly admits: boolean;
}

interface PeerTarget extends Target {
  readonly jsonId: string;
  readonly jsonAddr: string;
}

type JsonTarget = Omit<Target, 'ghzId'>;

export async function measureRates(bench: Bench): Promise<void> {
  const { stage, plan, generators, figures, onLine } = bench;
  const space = await stage.space();
  const api = { server: { workers: String(WORKERS), roles: ['api'] }, ...NO_BACKLOG_LIMIT };
  const product = await stage.service('product', space, api);
  const sale = await stage.openSale(product, UNITS);
  const soldOut = await stage.openSale(product, 1);
  const rpc = await startLimit(stage, 'rpc-limit');
  const http = await startLimit(stage, 'http-limit');
  await space.redis.script('LOAD', readFileSync(ADMIT_FILE, 'utf8'));

  const peers = await startPeers(bench, space, sale);
  const targets: Target[] = [
    { id: ID.rpc, ghzId: ID.rpcGhz, ...rpc, sale: soldOut, admits: false },
    ...peers,
    { id: ID.purchase, ghzId: ID.purchaseGhz, addr: product.grpc, pid: product.pid, sale, admits: true },
    { id: ID.soldOut, ghzId: ID.soldOutGhz, addr: product.grpc, pid: product.pid, sale: soldOut, admits: false },
  ];
  const json: JsonTarget[] = [
    { id: ID.http, addr: http.addr, pid: http.pid, sale, admits: false },
    ...peers.map((peer) => ({ ...peer, id: peer.jsonId, addr: peer.jsonAddr })),
    { id: ID.json, addr: product.http, pid: product.pid, sale, admits: true },
  ];
  // Takes the only unit, so that every further purchase is sold out.
  for (const target of targets) await unaryLoad(generators, { ...unary(target), seconds: 1 });
  for (const target of json) await jsonLoad(generators, { ...jsonCall(target), seconds: 1 });
  await takeAdmitted(space, sale);
  await takeAdmitted(space, soldOut);

  const batch = {
    path: PURCHASE_BATCH,
    body: PurchaseBatchRequest.encode({ itemId: sale.itemId, purchases: buyers() }).finish(),
    target: product.grpc,
    seconds: plan.seconds,
    headers: [`x-internal-token: ${DEVELOPMENT_TOKEN}`],
  };
  const measures: Measure[] = [
    ...scriptMeasures(bench, space, sale),
    ...targets.map((target) => ({
      id: target.id,
      run: () =>
        counted(bench, target, () =>
          checked(space, target, () => unaryLoad(generators, { ...unary(target), seconds: plan.seconds })),
        ),
    })),
    ...json.map((target) => ({
      id: target.id,
      run: () =>
        counted(bench, target, () =>
          checked(space, target, () => jsonLoad(generators, { ...jsonCall(target), seconds: plan.seconds })),
        ),
    })),
    {
      id: ID.batch,
      run: async () =>
        BATCH * (await checked(space, { sale, admits: true }, () => unaryLoad(generators, batch), BATCH)).perSecond,
    },
    ...(
      [
        [ID.stream, 1],
        [ID.streamOf8, 8],
      ] as const
    ).map(([id, perMessage]) => ({
      id,
      run: () => {
        const options = { target: product.grpc, token: DEVELOPMENT_TOKEN, itemId: sale.itemId, perMessage };
        const load = () => streamLoad({ ...options, seconds: plan.seconds });
        return counted(bench, { id, pid: product.pid }, () => checked(space, { sale, admits: true }, load));
      },
    })),
    ...ghzMeasures(bench, space, targets),
  ];
  await interleave(measures, plan.rounds, figures, onLine);
  await measureLatency(
    bench,
    targets.filter(({ id }) => id === ID.rpc || id === ID.purchase).map((t) => ({ id: t.id, call: unary(t) })),
  );
  await product.stop();
}

function scriptMeasures({ stage, plan, generators, figures }: Bench, space: Space, sale: Sale): Measure[] {
  const program = generators.redisBenchmark;
  if (program === undefined) {
    figures.skip(ID.redis, 'redis-benchmark is not on PATH');
    return [];
  }
  const { meta, stock, req, buyers, vip, stream, seen0, seen1 } = sale.keys;
  const options = {
    port: stage.redisPort,
    database: space.redisDatabase,
    sha: admitSha(),
    keys: [meta, stock, req, buyers, vip, stream, seen0, seen1],
    epoch: sale.epoch,
    count: plan.scriptCalls,
  };
  return (
    [
      [ID.redis, 1],
      [ID.redisPipelined, 16],
    ] as const
  ).map(([id, pipeline]) => ({
    id,
    run: async () => {
      const load = () => redisBenchmark(program, { ...options, pipeline });
      return (await checked(space, { sale, admits: true }, load)).perSecond;
    },
  }));
}

function ghzMeasures({ plan, generators, figures }: Bench, space: Space, targets: readonly Target[]): Measure[] {
  const program = generators.ghz;
  if (program === undefined) {
    for (const { ghzId } of targets) figures.skip(ghzId, 'ghz cannot be had here');
    return [];
  }
  return targets.map((target) => ({
    id: target.ghzId,
    run: async () => {
      const scenario = target.id === ID.soldOut ? 'purchase-sold-out' : 'purchase';
      const data = { item_id: String(target.sale.itemId) };
      const options = { scenario, data, target: target.addr, seconds: plan.seconds };
      return (await checked(space, target, () => ghz(program, options))).perSecond;
    },
  }));
}

/** A reference that answers a constant. */
async function startLimit(stage: Stage, name: 'rpc-limit' | 'http-limit'): Promise<Listening> {
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url));
  return stage.server(name, process.execPath, (addr) => [program, '--addr', addr, '--workers', String(WORKERS)]);
}

async function startPeers({ stage, peers, figures }: Bench, space: Space, sale: Sale): Promise<PeerTarget[]> {
  const started: PeerTarget[] = [];
  if (peers.kratos.program !== undefined) {
    const jsonAddr = await stage.address();
    const args = (addr: string) => ['-addr', addr, '-http', jsonAddr, '-redis', space.redisUrl, '-script', ADMIT_FILE];
    const server = await stage.server('peer-kratos', peers.kratos.program, args);
    const ids = { id: ID.kratos, ghzId: ID.kratosGhz, jsonId: ID.kratosHttp };
    started.push({ ...ids, ...server, jsonAddr, sale, admits: true });
  } else {
    for (const id of [ID.kratos, ID.kratosHttp]) figures.skip(id, peers.kratos.reason);
  }
  if (peers.nestjs.program !== undefined) {
    const entry = peers.nestjs.program;
    const proto = `${projectRoot}/bench/peers/proto/seckill/v1/seckill.proto`;
    const jsonAddr = await stage.address();
    const server = await stage.server('peer-nestjs', process.execPath, (at) => [
      ...[entry, '--addr', at, '--http', jsonAddr, '--redis', space.redisUrl, '--script', ADMIT_FILE],
      ...['--proto', proto, '--workers', String(WORKERS)],
    ]);
    const ids = { id: ID.nestjs, ghzId: ID.nestjsGhz, jsonId: ID.nestjsHttp };
    started.push({ ...ids, ...server, jsonAddr, sale, admits: true });
  } else {
    for (const id of [ID.nestjs, ID.nestjsHttp]) figures.skip(id, peers.nestjs.reason);
  }
  return started;
}

/** Each purchase by a different user; the same users in every call, because h2load cannot vary the body. */
function buyers() {
  return Array.from({ length: BATCH }, (_, i) =>
    PurchaseBatchRequest_Purchase.fromPartial({ userId: formatUserId(String(1_000 + i)) }),
  );
}

function unary({ addr, sale }: Target) {
  const body = PurchaseRequest.encode(PurchaseRequest.fromPartial({ itemId: sale.itemId })).finish();
  return { path: PURCHASE, body, target: addr };
}

function jsonCall({ addr, sale }: JsonTarget) {
  return { path: '/v1/seckill', body: Buffer.from(JSON.stringify({ itemId: String(sale.itemId) })), target: addr };
}

/** Runs a load and verifies that its replies were as expected. */
async function checked(
  space: Space,
  { sale, admits }: Pick<Target, 'sale' | 'admits'>,
  run: () => Promise<Load>,
  purchases = 1,
): Promise<Load> {
  // Purchases that were in flight when the last load ended.
  await takeAdmitted(space, sale);
  const load = await run();
  const admitted = await takeAdmitted(space, sale);
  requireNoFailures(load);
  if (admits && admitted < load.answered * purchases) {
    throw new Error(`${load.answered} calls got a reply, but only ${admitted} purchases were admitted`);
  }
  if (!admits && admitted > 0) throw new Error(`${admitted} purchases were admitted, but none should be`);
  return load;
}

/** Returns the load's rate and records its CPU cost. */
async function counted(
  { stage, figures }: Bench,
  { id, pid }: Pick<Target, 'id' | 'pid'>,
  run: () => Promise<Load>,
): Promise<number> {
  const { redisPid } = stage;
  const seconds = () => cpuSecondsOf(pid) + (redisPid === undefined ? 0 : cpuSecondsOf(redisPid));
  const before = COUNTS ? seconds() : 0;
  const load = await run();
  if (COUNTS && load.answered > 0) figures.add(cpuOf(id), ((seconds() - before) * 1e6) / load.answered);
  return load.perSecond;
}
