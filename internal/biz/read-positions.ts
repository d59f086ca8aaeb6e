/** How far PostgreSQL had written its log (WAL), in bytes. A server that has replayed as much shows what was committed before. */
export type LogPosition = bigint;

/** Later than every position of a log: reads that need it are answered by the primary. */
export const UNKNOWN_POSITION: LogPosition = 2n ** 53n - 1n;

/** The position after the last write for each user, for all replicas of the process together. */
export abstract class ReadPositions {
  /** Keeps the greater of this position and the one that a user has, and forgets it after a while. @throws UNAVAILABLE */
  abstract raise(userIds: readonly string[], position: LogPosition): Promise<void>;

  /** @returns undefined where nothing was written for the user lately @throws UNAVAILABLE */
  abstract find(userId: string): Promise<LogPosition | undefined>;
}
