import { type LogPosition, type ReadPositions, UNKNOWN_POSITION } from '../../biz/read-positions.js';
import type { Logger } from '../../kratos/log/logger.js';

/** Users whose last writes a process remembers by itself. */
const MAX_USERS = 10_000;

interface Remembered {
  readonly position: LogPosition;
  /** By performance.now(). */
  readonly untilMs: number;
}

/**
 * What the reads of a user must show: the position after the last write for the user, as this process knows it, and as all
 * replicas know it together. Where Redis is away a replica knows only of its own writes, so reads go to the primary.
 */
export class UserPositions {
  private readonly own = new Map<string, Remembered>();

  /** @param keepMs how long a position is remembered, here and in `shared` */
  constructor(
    private readonly shared: ReadPositions,
    private readonly keepMs: number,
    private readonly logger: Logger,
    private readonly maxUsers = MAX_USERS,
  ) {}

  /** Never fails: the write is committed. */
  async raise(userIds: readonly string[], position: LogPosition): Promise<void> {
    const untilMs = performance.now() + this.keepMs;
    for (const userId of userIds) {
      // Two transactions may end in another order than they are told.
      const known = this.ownOf(userId);
      // The map keeps the order of insertion, so the first is the one whose last write is the oldest.
      this.own.delete(userId);
      this.own.set(userId, { position: known > position ? known : position, untilMs });
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
    const own = this.ownOf(userId);
    try {
      const shared = (await this.shared.find(userId)) ?? 0n;
      return own > shared ? own : shared;
    } catch {
      return UNKNOWN_POSITION;
    }
  }

  private ownOf(userId: string): LogPosition {
    const found = this.own.get(userId);
    return found && found.untilMs > performance.now() ? found.position : 0n;
  }
}
