import type { LoadedSale } from '../../../internal/biz/seckill/admission.js';
import type { StreamEntry } from '../../../internal/biz/seckill/purchase-stream.js';

/** A move of units that began in a segment, by its id. */
export interface NotedMove {
  readonly to: number;
  readonly units: bigint;
}

export interface MemoryMeta extends Omit<LoadedSale, 'stock' | 'endsAt'> {
  readonly endsMs: number;
  readonly backlogLimit: number;
}

/** The keys of one item's segment, as `seckill-keys.ts` names them. */
export interface MemoryItemKeys {
  /** A marker of close has only an epoch. */
  meta: { readonly epoch: bigint; readonly closed: boolean; readonly loaded: MemoryMeta | undefined } | undefined;
  stock: bigint | undefined;
  req: bigint;
  buyers: Map<string, number>;
  vip: Map<string, number>;
  returned: Set<string>;
  /** What meta holds of moves: those that began here, and how many arrived. */
  moves: { readonly out: Map<string, NotedMove>; arrived: number };
  /** By user and request id. */
  seen: Map<string, { readonly streamId: string; readonly window: number }>;
  loading: { readonly token: string; readonly untilMs: number } | undefined;
  stream: StreamEntry[];
  lastId: { readonly ms: number; readonly sequence: number };
}

export function noKeys(): MemoryItemKeys {
  return {
    ...{ meta: undefined, stock: undefined, req: 0n, buyers: new Map(), vip: new Map(), returned: new Set() },
    ...{ moves: { out: new Map(), arrived: 0 }, seen: new Map(), loading: undefined, stream: [] },
    lastId: { ms: 0, sequence: 0 },
  };
}
