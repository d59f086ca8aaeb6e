import { crc32 } from 'node:zlib';

/*
 * A sale may be split into segments, numbered from 0. Each has a part of the units and a stream of its own, and the buyers
 * whose home it is. Stream ids are unique in their stream only, so everywhere outside Redis the id of an entry names its
 * segment: `<ms>-<sequence>` in segment 0, `<ms>-<sequence>-<k>` in segment k.
 */

export const MAX_SEGMENTS = 64;

/**
 * The segment that a user always buys in, so that the user's limit and request ids are judged in one place.
 * @param userId UUID in lower case
 */
export function homeSegment(userId: string, segments: number): number {
  return segments === 1 ? 0 : crc32(userId) % segments;
}

/** The segment of an entry. */
export function segmentOf(streamId: string): number {
  return Number(streamId.split('-', 3)[2] ?? 0);
}

/** @param id as Redis gave it */
export function segmentStreamId(id: string, segment: number): string {
  return segment === 0 ? id : `${id}-${segment}`;
}

/** The id that Redis gave an entry. */
export function withoutSegment(streamId: string): string {
  const at = streamId.indexOf('-', streamId.indexOf('-') + 1);
  return at < 0 ? streamId : streamId.slice(0, at);
}

/** The part of some units that a segment gets. Units below 0 are segment 0's alone. */
export function shareOf(units: bigint, segment: number, segments: number): bigint {
  if (units < 0n) return segment === 0 ? units : 0n;
  const n = BigInt(segments);
  return units / n + (BigInt(segment) < units % n ? 1n : 0n);
}

/** The segments of a sale: 0, 1, 2 … */
export function segmentsOf(segments: number): readonly number[] {
  return Array.from({ length: segments }, (_, k) => k);
}
