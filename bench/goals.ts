import type { Figures } from './figures.js';

/** A line of the table: a figure, and the references it is compared with. */
export interface Line {
  readonly work: string;
  readonly id: string;
  readonly unit: '/s' | 'µs' | 'ms' | 's' | '×';
  readonly goals: readonly Goal[];
}

export interface Goal {
  /** Id of the reference figure; empty: the goal applies to the figure itself. */
  readonly reference: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** Ids of all figures. */
export const ID = {
  redis: 'redis-limit',
  redisPipelined: 'redis-limit, 16 pipelined',
  rpc: 'rpc-limit',
  rpcGhz: 'rpc-limit (ghz)',
  kratos: 'peer-kratos',
  kratosGhz: 'peer-kratos (ghz)',
  nestjs: 'peer-nestjs',
  nestjsGhz: 'peer-nestjs (ghz)',
  purchase: 'Purchase',
  purchaseGhz: 'Purchase (ghz)',
  batch: 'PurchaseBatch',
  stream: 'PurchaseStream',
  streamOf8: 'PurchaseStream, 8 in a message',
  soldOut: 'sold out',
  soldOutGhz: 'sold out (ghz)',
  json: 'Purchase, JSON',
  rpcP99: 'rpc-limit, p99 at half of peak',
  purchaseP99: 'Purchase, p99 at half of peak',
  pg: 'pg-limit',
  settled: 'accepted → committed',
  settledUnderLoad: 'accepted → committed, while selling',
  completed: 'accepted → COMPLETED',
  completedShare: 'COMPLETED of accepted',
  hotSku: 'CreateOrder of one SKU',
  hotSkuNaive: 'CreateOrder of one SKU, a row lock for each',
  hotSkuGhz: 'CreateOrder of one SKU (ghz)',
  memory: 'memory, end against start of a long sale',
  joinList: 'join, order list',
  ownList: 'order list',
  joinAccess: 'join, access check',
  ownAccess: 'access check',
  joinStatistics: 'join, order statistics',
  ownStatistics: 'order statistics',
} as const;

/** CPU time of the server and of Redis per reply, under the same load as the rate of the same name. */
export function cpuOf(id: string): string {
  return `${id}, CPU`;
}

/**
 * Document 004 (docs/documents.md): 20,000 purchases per second on a Redis that runs the script 60,000 times per
 * second.
 */
const OF_REDIS = 20_000 / 60_000;

/** The lines of the table, with their goals. */
export const LINES: readonly Line[] = [
  { work: 'admission script, EVALSHA', id: ID.redis, unit: '/s', goals: [] },
  { work: 'admission script, 16 pipelined', id: ID.redisPipelined, unit: '/s', goals: [] },
  { work: 'rpc-limit', id: ID.rpc, unit: '/s', goals: [] },
  { work: 'rpc-limit (ghz)', id: ID.rpcGhz, unit: '/s', goals: [] },
  { work: 'peer-kratos', id: ID.kratos, unit: '/s', goals: [] },
  { work: 'peer-kratos (ghz)', id: ID.kratosGhz, unit: '/s', goals: [] },
  { work: 'peer-nestjs', id: ID.nestjs, unit: '/s', goals: [] },
  { work: 'peer-nestjs (ghz)', id: ID.nestjsGhz, unit: '/s', goals: [] },
  {
    work: 'Purchase, unary gRPC',
    id: ID.purchase,
    unit: '/s',
    goals: [
      { reference: ID.redis, atLeast: OF_REDIS },
      { reference: ID.rpc, atLeast: 0.9 },
      { reference: ID.kratos, atLeast: 1.2 },
      { reference: ID.nestjs, atLeast: 2.5 },
    ],
  },
  {
    work: 'Purchase, unary gRPC (ghz)',
    id: ID.purchaseGhz,
    unit: '/s',
    goals: [
      { reference: ID.redis, atLeast: OF_REDIS },
      { reference: ID.rpcGhz, atLeast: 0.9 },
      { reference: ID.kratosGhz, atLeast: 1.2 },
      { reference: ID.nestjsGhz, atLeast: 2.5 },
    ],
  },
  { work: 'PurchaseBatch, purchases', id: ID.batch, unit: '/s', goals: [{ reference: ID.redis, atLeast: 2 }] },
  {
    work: 'PurchaseStream, 1 purchase a message, 4 streams',
    id: ID.stream,
    unit: '/s',
    goals: [
      { reference: ID.purchase, atLeast: 3 },
      { reference: ID.redis, atLeast: 2 },
    ],
  },
  { work: 'PurchaseStream, 8 purchases a message, 4 streams', id: ID.streamOf8, unit: '/s', goals: [] },
  { work: 'sold-out answers', id: ID.soldOut, unit: '/s', goals: [{ reference: ID.rpc, atLeast: 0.95 }] },
  { work: 'sold-out answers (ghz)', id: ID.soldOutGhz, unit: '/s', goals: [{ reference: ID.rpcGhz, atLeast: 0.95 }] },
  { work: 'Purchase, JSON', id: ID.json, unit: '/s', goals: [{ reference: ID.purchase, atLeast: 1.3 }] },
  ...[ID.rpc, ID.kratos, ID.nestjs].map(
    (id): Line => ({ work: `CPU of an answer, ${id}`, id: cpuOf(id), unit: 'µs', goals: [] }),
  ),
  ...(
    [
      [ID.purchase, { [ID.rpc]: 0.9, [ID.kratos]: 1.2, [ID.nestjs]: 2.5 }],
      [ID.soldOut, { [ID.rpc]: 0.95 }],
      [ID.json, { [ID.purchase]: 1.3 }],
    ] as const
  ).map(
    ([id, against]): Line => ({
      work: `CPU of an answer, ${id}`,
      id: cpuOf(id),
      unit: 'µs',
      goals: Object.entries(against).map(([of, times]) => ({ reference: cpuOf(of), atMost: 1 / times })),
    }),
  ),
  {
    work: 'CPU of a purchase, PurchaseStream',
    id: cpuOf(ID.stream),
    unit: 'µs',
    goals: [{ reference: '', atMost: 20 }],
  },
  { work: 'CPU of a purchase, PurchaseStream, 8 in a message', id: cpuOf(ID.streamOf8), unit: 'µs', goals: [] },
  { work: 'rpc-limit, p99 at half of peak', id: ID.rpcP99, unit: 'ms', goals: [] },
  {
    work: 'Purchase, p99 at half of peak',
    id: ID.purchaseP99,
    unit: 'ms',
    goals: [{ reference: ID.rpcP99, atMost: 2 }],
  },
  { work: 'pg-limit, orders', id: ID.pg, unit: '/s', goals: [] },
  {
    work: 'accepted → committed',
    id: ID.settled,
    unit: '/s',
    goals: [
      { reference: ID.pg, atLeast: 0.5 },
      { reference: ID.redis, atLeast: OF_REDIS },
    ],
  },
  { work: 'accepted → COMPLETED, all of them', id: ID.completed, unit: 's', goals: [] },
  { work: 'share that became COMPLETED', id: ID.completedShare, unit: '×', goals: [{ reference: '', atLeast: 1 }] },
  { work: 'CreateOrder of one SKU, a row lock for each', id: ID.hotSkuNaive, unit: '/s', goals: [] },
  {
    work: 'CreateOrder of one SKU',
    id: ID.hotSku,
    unit: '/s',
    goals: [{ reference: ID.hotSkuNaive, atLeast: 5 }],
  },
  { work: 'CreateOrder of one SKU, gRPC (ghz)', id: ID.hotSkuGhz, unit: '/s', goals: [] },
  { work: 'memory, end against start of the sale', id: ID.memory, unit: '×', goals: [{ reference: '', atMost: 1.1 }] },
  ...(
    [
      ['order list of a user', ID.joinList, ID.ownList, 10],
      ['access check', ID.joinAccess, ID.ownAccess, 25],
      ['order statistics', ID.joinStatistics, ID.ownStatistics, 12],
    ] as const
  ).flatMap(([work, join, own, times]): Line[] => [
    { work: `${work}, join`, id: join, unit: 'ms', goals: [] },
    { work, id: own, unit: 'ms', goals: [{ reference: join, atMost: 1 / times }] },
  ]),
];

export interface Verdict {
  readonly goal: Goal;
  readonly ratio: number;
  readonly met: boolean;
}

/** The line's goals for which both figures were measured. */
export function verdicts(line: Line, figures: Figures): Verdict[] {
  const value = figures.median(line.id);
  return line.goals.flatMap((goal) => {
    const against = goal.reference === '' ? 1 : figures.median(goal.reference);
    if (value === undefined || against === undefined || against === 0) return [];
    const ratio = value / against;
    const met =
      ratio >= (goal.atLeast ?? Number.NEGATIVE_INFINITY) && ratio <= (goal.atMost ?? Number.POSITIVE_INFINITY);
    return [{ goal, ratio, met }];
  });
}
