import { type Delivery, entryKey } from '../biz/seckill/purchase-stream.js';
import type { ConsumerStream } from './seckill-consumer-stream.js';

/** Entries of one stream that are settled together. Times are those of `performance.now()`. */
export interface ConsumerBatch {
  readonly stream: ConsumerStream;
  readonly deliveries: readonly Delivery[];
  /** When the first read of these entries began. */
  readonly readAtMs: number;
}

/** Segments of an item are read together, each with up to a batch. */
export function chunksOf(deliveries: readonly Delivery[], size: number): readonly (readonly Delivery[])[] {
  if (deliveries.length <= size) return [deliveries];
  const count = Math.ceil(deliveries.length / size);
  return Array.from({ length: count }, (_, i) => deliveries.slice(i * size, (i + 1) * size));
}

/** The first of each list, then the second of each: a sale in many segments must not keep the others waiting. */
export function inTurns<T>(lists: readonly (readonly T[])[]): readonly T[] {
  const longest = Math.max(0, ...lists.map((list) => list.length));
  return Array.from({ length: longest }, (_, i) => lists.flatMap((list) => list.slice(i, i + 1))).flat();
}

/** Of an entry that was kept and read again, the last copy counts: Redis knows how often it was delivered. */
export function withoutDoubles(deliveries: readonly Delivery[]): readonly Delivery[] {
  return [...new Map(deliveries.map((d) => [entryKey(d), d])).values()];
}
