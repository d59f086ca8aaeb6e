import type { InstanceJob, InstanceLog, InstanceLogStatus } from '../../biz/instance/instance-log.js';

export const INSTANCE_LOG_COLUMNS = `id, instance_id, product_id, user_id, source, source_id, order_id, name, cpus, memory_mb, gpu, image, trace,
  status, reason, created_at, updated_at`;

export interface InstanceLogRow {
  trace: string | null;
  id: bigint;
  instance_id: bigint;
  product_id: bigint;
  user_id: string;
  source: string;
  source_id: string;
  order_id: bigint | null;
  name: string;
  cpus: number;
  memory_mb: number;
  gpu: number;
  image: string;
  status: InstanceLogStatus;
  reason: string;
  created_at: Date;
  updated_at: Date;
}

export interface InstanceJobRow extends InstanceLogRow {
  attempts: number;
  report_attempts: number;
  next_attempt_at: Date;
}

export function instanceLogOf(row: InstanceLogRow): InstanceLog {
  return {
    id: row.id,
    instanceId: row.instance_id,
    productId: row.product_id,
    userId: row.user_id,
    source: row.source,
    sourceId: row.source_id,
    orderId: row.order_id ?? undefined,
    name: row.name,
    size: { cpus: row.cpus, memoryMb: row.memory_mb, gpu: row.gpu, image: row.image },
    status: row.status,
    reason: row.reason,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    ...(row.trace !== null && { trace: row.trace }),
  };
}

/** By id, because RETURNING has no order. */
export function instanceJobsOf({ rows }: { rows: InstanceJobRow[] }): readonly InstanceJob[] {
  return rows
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((row) => ({
      ...instanceLogOf(row),
      attempts: row.attempts,
      reportAttempts: row.report_attempts,
      leaseEndsAt: row.next_attempt_at,
    }));
}
