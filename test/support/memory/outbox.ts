import type { InstanceEvent } from '../../../internal/biz/instance/instance.js';
import { type NewOutboxRow, Outbox } from '../../../internal/biz/outbox.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

export interface MemoryOutboxRow {
  readonly id: bigint;
  readonly topic: string;
  readonly refId: bigint;
  /** Rows of topic instance.created. */
  readonly event?: InstanceEvent | undefined;
  /** Rows of all other topics. */
  readonly payload?: Uint8Array | undefined;
  readonly publishedAt: Date | undefined;
}

/** The table `outbox`. */
export class MemoryOutbox extends Outbox {
  readonly table: MemoryTable<MemoryOutboxRow>;
  private lastId = 0n;

  constructor(private readonly store: MemoryStore) {
    super();
    this.table = new MemoryTable(store, 'outbox', (row) => String(row.id));
  }

  override append(tx: Transaction, rows: readonly NewOutboxRow[]): Promise<void> {
    return this.store.statement('outbox.append', tx, async () => {
      for (const row of rows) await this.table.insert(tx, { ...row, id: ++this.lastId, publishedAt: undefined });
    });
  }

  /** Part of the statement that stores an instance request. */
  async appendEvent(tx: Transaction, event: InstanceEvent): Promise<void> {
    const refId = event.instanceId;
    await this.table.insert(tx, { id: ++this.lastId, topic: 'instance.created', refId, event, publishedAt: undefined });
  }

  /** Waiting rows, oldest first. */
  waiting(topic: string, limit: number): Promise<readonly MemoryOutboxRow[]> {
    return this.store.statement('outbox.waiting', undefined, async () =>
      this.table
        .rows()
        .filter((row) => row.topic === topic && row.publishedAt === undefined)
        .slice(0, limit),
    );
  }

  markPublished(rows: readonly MemoryOutboxRow[]): Promise<void> {
    return this.store.statement('outbox.markPublished', undefined, async (tx) => {
      for (const { id } of rows) {
        await this.table.update(tx, String(id), (row) => ({
          ...row,
          publishedAt: row.publishedAt ?? this.store.now(),
        }));
      }
    });
  }
}
