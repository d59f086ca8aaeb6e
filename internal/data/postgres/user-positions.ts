import { type LogPosition, type ReadPositions, UNKNOWN_POSITION } from '../../biz/read-positions.js';
import type { Logger } from '../../kratos/log/logger.js';

/** Users whose last writes a process remembers by itself. */
const MAX_USERS = 10_000;

/**
 * What the reads of a user must show: the position after the last write for the user, as this process knows it, and as all
 * replicas know it together. Where Redis is away a replica knows only of its own writes, so reads go to the primary.
 */
export class UserPositions {
  private readonly own = new Map<string, LogPosition>();

  constructor(
    private readonly shared: ReadPositions,
    private readonly logger: Logger,
    private readonly maxUsers = MAX_USERS,
  ) {}

  /** Never fails: the write is committed. */
  async raise(userIds: readonly string[], position: LogPosition): Promise<void> {
    for (const userId of userIds) {
      // The map keeps the order of insertion, so the first is the one whose last write is the oldest.
      this.own.delete(userId);
      this.own.set(userId, position);
    }
    for (const userId of this.own.keys()) {
      if (this.own.size <= this.maxUsers) break;
      this.own.delete(userId);
    }
    try {
      await this.shared.raise(userIds, position);
    } catch (err) {
      this.logger.warn('other replicas may answer lists of these users without their last write', {
        err,
        users: userIds.length,
      });
    }
  }

  /** @returns UNKNOWN_POSITION while it cannot be known */
  async find(userId: string): Promise<LogPosition> {
    const own = this.own.get(userId) ?? 0n;
    try {
      const shared = (await this.shared.find(userId)) ?? 0n;
      return own > shared ? own : shared;
    } catch {
      return UNKNOWN_POSITION;
    }
  }
}
