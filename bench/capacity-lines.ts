import type { Line } from './goals.js';

/** How Redis and product are set up. */
export interface Capacity {
  readonly masters: number;
  /** Of product, for callers. */
  readonly replicas: number;
  /** Of the one sale that all purchases are of; undefined: several sales without segments. */
  readonly segments?: number;
}

export const FORMS: readonly Capacity[] = [
  { masters: 1, replicas: 1 },
  { masters: 2, replicas: 1 },
  { masters: 3, replicas: 1 },
  { masters: 3, replicas: 2 },
  { masters: 3, replicas: 1, segments: 1 },
  { masters: 3, replicas: 1, segments: 6 },
];

const CPU = [
  'product, purchase',
  'Redis master, purchase',
  'Redis replica, purchase',
  'product background, settlement',
  'Redis master, settlement',
  'PostgreSQL, settlement',
  'RabbitMQ, settlement',
] as const;
const BYTES = [
  'Redis memory, until settled',
  'Redis memory, after that',
  'Redis log',
  'PostgreSQL log',
  'PostgreSQL tables and indexes',
] as const;

/** A figure for each purchase. */
export type Part = (typeof CPU)[number] | (typeof BYTES)[number];

export function capacityId({ masters, replicas, segments }: Capacity, part: Part): string {
  return `capacity, ${masters} masters, ${replicas} replicas${segments === undefined ? '' : `, ${segments} segments`}: ${part}`;
}

/** The lines of the table. */
export function capacityLines(): Line[] {
  return FORMS.flatMap((form) => {
    const { masters, replicas, segments } = form;
    const of =
      `${masters} Redis ${masters === 1 ? 'master' : 'masters'}, ${replicas === 1 ? 'one replica' : `${replicas} replicas`} of product` +
      (segments === undefined ? '' : segments === 1 ? ', one sale' : `, one sale in ${segments} segments`);
    return [
      ...CPU.map((part): Line => ({ work: `CPU, ${part}; ${of}`, id: capacityId(form, part), unit: 'µs', goals: [] })),
      ...BYTES.map((part): Line => ({ work: `${part}; ${of}`, id: capacityId(form, part), unit: 'B', goals: [] })),
    ];
  });
}
