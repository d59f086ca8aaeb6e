import {
  type CreateInstance,
  type InstanceEvent,
  InstanceRepo,
  type InstanceReport,
  type InstanceRequest,
} from '../../../internal/biz/instance/instance.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import type { MemoryOutbox } from './outbox.js';
import { type MemoryStore, MemoryTable } from './store.js';

const SOURCE_KEY = 'source';
const REASON_MAX = 1024;

export class MemoryInstanceRepo extends InstanceRepo {
  readonly requests: MemoryTable<InstanceRequest>;

  constructor(
    protected readonly store: MemoryStore,
    protected readonly outbox: MemoryOutbox,
  ) {
    super();
    this.requests = new MemoryTable(store, 'instance_requests', (r) => String(r.instanceId), [
      { name: SOURCE_KEY, of: (r) => `${r.source} ${r.productId} ${r.sourceId}` },
    ]);
  }

  override insertRequests(tx: Transaction, events: readonly InstanceEvent[]): Promise<readonly InstanceRequest[]> {
    return this.store.statement('instance.insertRequests', tx, async () => {
      const keyOf = (r: CreateInstance) => `${r.source} ${r.productId} ${r.sourceId}`;
      const stored = new Map<string, InstanceRequest>();
      // Sorted by key, so that two batches with several common keys lock them in the same order.
      for (const event of [...events].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : keyOf(a) > keyOf(b) ? 1 : 0))) {
        const wanted = requestOf(event, this.store.now());
        const known = await this.requests.insert(tx, wanted, SOURCE_KEY);
        stored.set(keyOf(event), known ?? wanted);
        if (!known) await this.appendEvent(tx, event);
      }
      return events.map((e) => stored.get(keyOf(e))!);
    });
  }

  override insertNew(tx: Transaction, events: readonly InstanceEvent[]): Promise<boolean> {
    return this.store.statement('instance.insertNew', tx, async () => {
      for (const event of events) {
        if (await this.requests.insert(tx, requestOf(event, this.store.now()), SOURCE_KEY)) return false;
        await this.appendEvent(tx, event);
      }
      return true;
    });
  }

  protected appendEvent(tx: Transaction, event: InstanceEvent): Promise<void> {
    return this.outbox.appendEvent(tx, event);
  }

  override find(instanceId: bigint): Promise<InstanceRequest | undefined> {
    return this.store.statement('instance.find', undefined, async () => this.requests.find(String(instanceId)));
  }

  override lock(tx: Transaction, instanceId: bigint): Promise<InstanceRequest | undefined> {
    return this.store.statement('instance.lock', tx, () => this.requests.lock(tx, String(instanceId)));
  }

  override setReport(tx: Transaction, report: InstanceReport): Promise<InstanceRequest> {
    return this.store.statement('instance.setReport', tx, async () => {
      const reported = await this.requests.update(tx, String(report.instanceId), (r) => ({
        ...r,
        status: report.status,
        reason: report.reason.slice(0, REASON_MAX),
        reportedAt: this.store.now(),
      }));
      if (!reported) throw new Error(`no instance request ${report.instanceId}`);
      return reported;
    });
  }

  override setCreated(tx: Transaction, instanceIds: readonly bigint[]): Promise<readonly InstanceRequest[]> {
    return this.store.statement('instance.setCreated', tx, async () => {
      const created: InstanceRequest[] = [];
      for (const id of [...instanceIds].sort((a, b) => (a < b ? -1 : 1))) {
        const reported = await this.requests.update(tx, String(id), (r) =>
          r.status === 'REQUESTED' ? { ...r, status: 'SUCCESS', reason: '', reportedAt: this.store.now() } : undefined,
        );
        if (reported) created.push(reported);
      }
      return created;
    });
  }

  /** As if the tables of the resource domain were in another database. */
  override resendLost(minAgeMs: number, maxAgeMs: number, limit: number): Promise<number> {
    return this.store.statement('instance.resendLost', undefined, async (tx) => {
      const nowMs = this.store.now().getTime();
      const lost = this.outbox.table.rows(tx).filter((row) => {
        const request = row.event && this.requests.find(String(row.refId), tx);
        const ageMs = request ? nowMs - request.createdAt.getTime() : 0;
        const publishedMs = row.publishedAt ? nowMs - row.publishedAt.getTime() : 0;
        const inRange = ageMs >= minAgeMs && ageMs < maxAgeMs && publishedMs >= minAgeMs / 2;
        return request?.status === 'REQUESTED' && row.publishedAt !== undefined && inRange;
      });
      for (const { id } of lost.slice(0, limit)) {
        await this.outbox.table.update(tx, String(id), (row) => ({ ...row, publishedAt: undefined }));
      }
      return Math.min(lost.length, limit);
    });
  }
}

function requestOf(wanted: InstanceEvent, at: Date): InstanceRequest {
  const { instanceId, productId, userId, source, sourceId, orderId } = wanted;
  return {
    ...{ instanceId, productId, userId, source, sourceId, orderId },
    ...{ status: 'REQUESTED', reason: '', createdAt: at, reportedAt: undefined },
  };
}
