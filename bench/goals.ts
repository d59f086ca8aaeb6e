import type { Figures } from './figures.js';

/** A line of the table: a figure, and the references it is compared with. */
export interface Line {
  readonly work: string;
  readonly id: string;
  readonly unit: '/s' | 'µs' | 'ms' | 's' | 'B' | '×';
  readonly goals: readonly Goal[];
}

export interface Goal {
  /** Id of the reference figure; empty: the goal applies to the figure itself. */
  readonly reference: string;
  /** Without `atLeast` and `atMost` the ratio is only reported. */
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
  http: 'http-limit',
  kratosHttp: 'peer-kratos, JSON',
  nestjsHttp: 'peer-nestjs, JSON',
  json: 'Purchase, JSON',
  fsyncP50: 'fsync, p50',
  fsyncP99: 'fsync, p99',
  pg: 'pg-limit',
  settled: 'accepted → committed',
  settledUnderLoad: 'accepted → committed, while selling',
  completed: 'accepted → COMPLETED',
  completedShare: 'COMPLETED of accepted',
  hotSku: 'CreateOrder of one SKU',
  hotSkuNaive: 'CreateOrder of one SKU, a row lock for each',
  hotSkuGhz: 'CreateOrder of one SKU (ghz)',
  batchGhz: 'PurchaseBatch (ghz)',
  saleGhz: 'GetSale (ghz)',
  findGhz: 'GetPurchase (ghz)',
  quoteGhz: 'Quote (ghz)',
  orderGhz: 'GetOrder (ghz)',
  listOrdersGhz: 'ListOrders (ghz)',
  barePut: 'cart-limit, HSET',
  bareGet: 'cart-limit, HGETALL',
  cartPut: 'PutCartItem',
  cartGet: 'GetCart',
  cartPutSaving: 'PutCartItem while carts are saved',
  cartsSaved: 'carts saved',
  cartPutGhz: 'PutCartItem (ghz)',
  cartGetGhz: 'GetCart (ghz)',
  memory: 'memory, end against start of a long sale',
  joinListInside: 'join, order list, in PostgreSQL',
  ownListInside: 'order list, in PostgreSQL',
  joinAccessInside: 'join, access check, in PostgreSQL',
  ownAccessInside: 'access check, in PostgreSQL',
  joinStatisticsInside: 'join, order statistics, in PostgreSQL',
  ownStatisticsInside: 'order statistics, in PostgreSQL',
  accessGhz: 'CheckAccess (ghz)',
  statisticsGhz: 'GetOrderStats (ghz)',
  storage: 'storage of orders, against joined tables',
  copies: 'storage of copies, against the rest',
  instanceRate: 'instances on Kubernetes, per second',
  instanceP99: 'instances on Kubernetes, p99 from order to COMPLETED',
  instanceRequests: 'instances on Kubernetes, requests to the API server each',
  joinList: 'join, order list',
  ownList: 'order list',
  joinAccess: 'join, access check',
  ownAccess: 'access check',
  joinStatistics: 'join, order statistics',
  ownStatistics: 'order statistics',
} as const;

/** Shares of Purchase's peak at which latencies are measured. */
export const SHARES_OF_PEAK = [0.25, 0.5, 0.9] as const;
export const LATENCIES = ['p50', 'p99'] as const;

/** The latency of a server, or of its reference, at a share of Purchase's peak. */
export function latencyOf(id: string, share: (typeof SHARES_OF_PEAK)[number], of: (typeof LATENCIES)[number]): string {
  return `${id}, ${of} at ${Math.round(share * 100)} % of peak`;
}

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
      { reference: ID.rpc, atLeast: 0.85 },
      { reference: ID.kratos, atLeast: 2 },
      { reference: ID.nestjs, atLeast: 2.5 },
      { reference: '', atLeast: 20_000 },
    ],
  },
  {
    work: 'Purchase, unary gRPC (ghz)',
    id: ID.purchaseGhz,
    unit: '/s',
    goals: [
      { reference: ID.redis, atLeast: OF_REDIS },
      { reference: ID.rpcGhz, atLeast: 0.85 },
      { reference: ID.kratosGhz, atLeast: 2 },
      { reference: ID.nestjsGhz, atLeast: 2.5 },
    ],
  },
  { work: 'PurchaseBatch, purchases', id: ID.batch, unit: '/s', goals: [{ reference: ID.redis, atLeast: 4 }] },
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
  { work: 'sold-out answers', id: ID.soldOut, unit: '/s', goals: [{ reference: ID.rpc, atLeast: 1 }] },
  { work: 'sold-out answers (ghz)', id: ID.soldOutGhz, unit: '/s', goals: [{ reference: ID.rpcGhz, atLeast: 1 }] },
  { work: 'http-limit', id: ID.http, unit: '/s', goals: [] },
  { work: 'peer-kratos, JSON', id: ID.kratosHttp, unit: '/s', goals: [] },
  { work: 'peer-nestjs, JSON', id: ID.nestjsHttp, unit: '/s', goals: [] },
  {
    work: 'Purchase, JSON',
    id: ID.json,
    unit: '/s',
    goals: [
      { reference: ID.http, atLeast: 0.8 },
      { reference: ID.kratosHttp, atLeast: 2 },
    ],
  },
  ...[ID.rpc, ID.kratos, ID.nestjs, ID.http, ID.kratosHttp, ID.nestjsHttp].map(
    (id): Line => ({ work: `CPU of an answer, ${id}`, id: cpuOf(id), unit: 'µs', goals: [] }),
  ),
  ...(
    [
      [ID.purchase, { [ID.rpc]: 1 / 1.2, [ID.kratos]: 2, [ID.nestjs]: 2.5 }],
      [ID.soldOut, { [ID.rpc]: 1 }],
      [ID.json, { [ID.http]: 0.8, [ID.kratosHttp]: 2 }],
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
  { work: 'fsync of 4 KiB, p50', id: ID.fsyncP50, unit: 'ms', goals: [] },
  { work: 'fsync of 4 KiB, p99', id: ID.fsyncP99, unit: 'ms', goals: [] },
  ...SHARES_OF_PEAK.flatMap((share) =>
    LATENCIES.flatMap((of): Line[] => {
      const [reference, own] = [latencyOf(ID.rpc, share, of), latencyOf(ID.purchase, share, of)];
      return [
        { work: reference, id: reference, unit: 'ms', goals: [] },
        { work: own, id: own, unit: 'ms', goals: share === 0.5 && of === 'p99' ? [{ reference, atMost: 1.5 }] : [] },
      ];
    }),
  ),
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
  { work: 'accepted → COMPLETED, all of them', id: ID.completed, unit: 's', goals: [{ reference: '', atMost: 20 }] },
  { work: 'share that became COMPLETED', id: ID.completedShare, unit: '×', goals: [{ reference: '', atLeast: 1 }] },
  { work: 'CreateOrder of one SKU, a row lock for each', id: ID.hotSkuNaive, unit: '/s', goals: [] },
  {
    work: 'CreateOrder of one SKU',
    id: ID.hotSku,
    unit: '/s',
    goals: [{ reference: ID.hotSkuNaive, atLeast: 5 }],
  },
  { work: 'CreateOrder of one SKU, gRPC (ghz)', id: ID.hotSkuGhz, unit: '/s', goals: [] },
  ...(
    [
      [ID.batchGhz, 'PurchaseBatch of 32, calls (ghz)'],
      [ID.saleGhz, 'GetSale (ghz)'],
      [ID.findGhz, 'GetPurchase (ghz)'],
      [ID.quoteGhz, 'Quote of one SKU (ghz)'],
      [ID.orderGhz, 'GetOrder (ghz)'],
      [ID.listOrdersGhz, 'ListOrders, 20 of 30 (ghz)'],
    ] as const
  ).map(([id, work]): Line => ({ work, id, unit: '/s', goals: [] })),
  { work: 'cart-limit, a bare HSET in the same process', id: ID.barePut, unit: '/s', goals: [] },
  { work: 'cart-limit, a bare HGETALL in the same process', id: ID.bareGet, unit: '/s', goals: [] },
  { work: 'PutCartItem', id: ID.cartPut, unit: '/s', goals: [{ reference: ID.barePut, atLeast: 0.5 }] },
  {
    work: 'GetCart of 5 lines, with its quote',
    id: ID.cartGet,
    unit: '/s',
    goals: [{ reference: ID.bareGet, atLeast: 0.25 }],
  },
  ...[ID.barePut, ID.bareGet].map(
    (id): Line => ({ work: `CPU of an answer, ${id}`, id: cpuOf(id), unit: 'µs', goals: [] }),
  ),
  ...(
    [
      [ID.cartPut, ID.barePut, 2],
      [ID.cartGet, ID.bareGet, 4],
    ] as const
  ).map(
    ([id, of, atMost]): Line => ({
      work: `CPU of an answer, ${id}`,
      id: cpuOf(id),
      unit: 'µs',
      goals: [{ reference: cpuOf(of), atMost }],
    }),
  ),
  { work: 'PutCartItem while carts are saved', id: ID.cartPutSaving, unit: '/s', goals: [] },
  // With what Redis does for the saver meanwhile, so it has no goal.
  { work: 'CPU of an answer, PutCartItem while carts are saved', id: cpuOf(ID.cartPutSaving), unit: 'µs', goals: [] },
  { work: 'carts saved meanwhile', id: ID.cartsSaved, unit: '/s', goals: [] },
  { work: 'PutCartItem (ghz)', id: ID.cartPutGhz, unit: '/s', goals: [] },
  { work: 'GetCart (ghz)', id: ID.cartGetGhz, unit: '/s', goals: [] },
  { work: 'instances on Kubernetes', id: ID.instanceRate, unit: '/s', goals: [] },
  { work: 'instances on Kubernetes, p99 from order to COMPLETED', id: ID.instanceP99, unit: 's', goals: [] },
  {
    work: 'instances on Kubernetes, requests to the API server each',
    id: ID.instanceRequests,
    unit: '×',
    goals: [{ reference: '', atMost: 3 }],
  },
  { work: 'memory, end against start of the sale', id: ID.memory, unit: '×', goals: [{ reference: '', atMost: 1.1 }] },
  // The goals are for the time in PostgreSQL; what a caller waits for is mostly one round trip.
  ...(
    [
      ['order list of a user', ID.joinListInside, ID.ownListInside, 10],
      ['access check', ID.joinAccessInside, ID.ownAccessInside, 25],
      ['order statistics', ID.joinStatisticsInside, ID.ownStatisticsInside, 12],
    ] as const
  ).flatMap(([work, join, own, times]): Line[] => [
    { work: `${work}, join, in PostgreSQL`, id: join, unit: 'ms', goals: [] },
    { work: `${work}, in PostgreSQL`, id: own, unit: 'ms', goals: [{ reference: join, atMost: 1 / times }] },
  ]),
  ...(
    [
      ['page of 20 orders of a user', ID.joinList, ID.ownList],
      ['access check', ID.joinAccess, ID.ownAccess],
      ['order statistics', ID.joinStatistics, ID.ownStatistics],
    ] as const
  ).flatMap(([work, join, own]): Line[] => [
    { work: `${work}, join, at the caller`, id: join, unit: 'ms', goals: [] },
    { work: `${work}, at the caller`, id: own, unit: 'ms', goals: [{ reference: join }] },
  ]),
  { work: 'CheckAccess, gRPC (ghz)', id: ID.accessGhz, unit: '/s', goals: [] },
  { work: 'GetOrderStats of 30 days, gRPC (ghz)', id: ID.statisticsGhz, unit: '/s', goals: [] },
  { work: 'storage of the orders, against joined tables', id: ID.storage, unit: '×', goals: [] },
  { work: 'storage of the copies, against the rest', id: ID.copies, unit: '×', goals: [] },
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
