import { type LogPosition, ReadPositions } from '../../../internal/biz/read-positions.js';

export class MemoryReadPositions extends ReadPositions {
  private readonly positions = new Map<string, { readonly position: LogPosition; readonly endsAtMs: number }>();

  constructor(private readonly keepMs: number) {
    super();
  }

  override async raise(userIds: readonly string[], position: LogPosition): Promise<void> {
    for (const userId of userIds) {
      const known = this.known(userId) ?? 0n;
      const endsAtMs = performance.now() + this.keepMs;
      this.positions.set(userId, { position: known > position ? known : position, endsAtMs });
    }
  }

  override async find(userId: string): Promise<LogPosition | undefined> {
    return this.known(userId);
  }

  private known(userId: string): LogPosition | undefined {
    const found = this.positions.get(userId);
    return found && found.endsAtMs > performance.now() ? found.position : undefined;
  }
}
