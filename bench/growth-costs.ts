/** Service times of the simulation in growth.ts, each from a measurement. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../internal/local/project.js';
import { cpuOf, ID } from './goals.js';
import type { Percentiles } from './growth-kernel.js';

export const RESULTS = 'bench/results/2026-11-22.json';

/** Median of a figure in the results file. */
export type Measured = (id: string) => number;

export function readMeasured(): Measured {
  const text = readFileSync(join(projectRoot, RESULTS), 'utf8');
  const { figures } = JSON.parse(text) as { figures: Record<string, { median: number }> };
  return (id) => {
    const figure = figures[id];
    if (!figure) throw new Error(`${RESULTS} has no figure ${id}`);
    return figure.median;
  };
}

/** How callers send purchases. */
export type Way = 'unary' | 'stream' | 'stream of 8' | 'batch of 32';

/** Purchases of one call, or of one message of a stream. */
export const PER_CALL: Readonly<Record<Way, number>> = { unary: 1, stream: 1, 'stream of 8': 8, 'batch of 32': 32 };

/** In milliseconds. */
export interface Costs {
  /** One way through the network. */
  readonly network: number;
  readonly redis: {
    /** A script call without its purchases. */
    readonly call: number;
    readonly purchase: number;
    /** Reading and answering a connection, once in a turn of the event loop. */
    readonly connection: number;
    /** A write to disk, once in a turn of the event loop (`appendfsync always`). */
    readonly disk: Percentiles;
  };
  /** CPU of product. */
  readonly product: {
    /** For each purchase, with its share of the call that brings it. */
    readonly purchase: Readonly<Record<Way, number>>;
    /** For each script call. */
    readonly call: number;
  };
  /** CPU of the load generator for each purchase. */
  readonly client: Readonly<Record<Way, number>>;
  readonly settlement: {
    /** CPU of the consumer for each entry. */
    readonly node: number;
    /** Of the one backend that holds the item's lock. */
    readonly postgres: number;
    /** Of other backends afterwards: outbox rows that are claimed and marked as published, vacuum. */
    readonly postgresLater: number;
    /** From the last statement to COMMIT and from there to the next batch: a round trip each. */
    readonly commit: number;
    readonly disk: Percentiles;
    /** Of a Redis master, for each entry that is read, acknowledged and removed. */
    readonly redis: number;
  };
}

const US = 1e-3;
/** `redis-benchmark -c 50`, as bench/load.ts calls it. */
const CONNECTIONS = 50;
/** One purchase in a script call of 64, measured when `admit.lua` was made cheaper (bench/README.md). */
const ADMIT = 9.3 * US;
/** Of product for a script call: encoding, one write, one read, decoding. Assumed; it was not measured by itself. */
const PRODUCT_CALL = 50 * US;
/** Purchases of a script call in the runs that the costs are taken from, as this model finds them. */
const BATCHES: Readonly<Record<Way, number>> = { unary: 9, stream: 100, 'stream of 8': 110, 'batch of 32': 32 };

/**
 * Costs on an idle machine. The CPU for each purchase is taken from the runs, the rates are not, but for two: the results do
 * not say what the client of PurchaseStream and a PurchaseBatch cost. Those are what is left of the two cores.
 */
export function quietCosts(measured: Measured): Costs {
  const disk = { p50: measured(ID.fsyncP50), p99: measured(ID.fsyncP99) };
  const call = 1e3 / measured(ID.redisPipelined) - ADMIT;
  // A call on a connection of its own, with its share of the disk.
  const connection = 1e3 / measured(ID.redis) - disk.p50 / CONNECTIONS - call - ADMIT;
  const redisOf = (way: Way) => ADMIT + (call + connection) / BATCHES[way];
  const productOf = (way: Way, cpuUs: number) => cpuUs * US - redisOf(way) - PRODUCT_CALL / BATCHES[way];
  const left = (rate: number, cpuUs: number) => 2e3 / rate - cpuUs * US;
  const unary = left(measured(ID.soldOut), measured(cpuOf(ID.soldOut)));
  const streamCpu = measured(cpuOf(ID.stream));
  const stream = left(measured(ID.stream), streamCpu);
  const streamOf8Cpu = measured(cpuOf(ID.streamOf8));
  const batch = 2e3 / measured(ID.batch) - unary / PER_CALL['batch of 32'];
  return {
    network: 0.02,
    redis: { call, purchase: ADMIT, connection, disk },
    product: {
      purchase: {
        unary: productOf('unary', measured(cpuOf(ID.purchase))),
        stream: productOf('stream', streamCpu),
        'stream of 8': productOf('stream of 8', streamOf8Cpu),
        'batch of 32': productOf('batch of 32', batch / US),
      },
      call: PRODUCT_CALL,
    },
    client: {
      unary,
      stream,
      // Larger messages save the client the share that they save the server.
      'stream of 8': (stream * streamOf8Cpu) / streamCpu,
      'batch of 32': unary / PER_CALL['batch of 32'],
    },
    settlement: {
      // The last pair of runs of settlement in bench/README.md, batches of 500.
      node: 85 * US,
      postgres: 96.9 * US,
      // 180 µs of PostgreSQL in docs/scaling.md, of which the transactions of settlement are the line above.
      postgresLater: (180 - 96.9) * US,
      commit: 0.5,
      disk,
      redis: 35 * US,
    },
  };
}

/** The same on a machine whose CPU time is worth less. The disk and the network stay as they are. */
export function slowed(costs: Costs, factor: number): Costs {
  const { redis, product, client, settlement } = costs;
  const ways = (of: Readonly<Record<Way, number>>) =>
    Object.fromEntries(Object.entries(of).map(([way, ms]) => [way, ms * factor])) as Record<Way, number>;
  return {
    ...costs,
    redis: {
      ...redis,
      call: redis.call * factor,
      purchase: redis.purchase * factor,
      connection: redis.connection * factor,
    },
    product: { purchase: ways(product.purchase), call: product.call * factor },
    client: ways(client),
    // Measured on a busy machine already.
    settlement,
  };
}
