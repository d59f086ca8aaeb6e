import { Event } from '../../gen/instance/v1/event.js';
import { formatUserId } from '../../internal/biz/identity.js';
import { instanceName } from '../../internal/biz/instance/instance.js';
import type { InstanceJob, InstanceOrder } from '../../internal/biz/instance/instance-log.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';

/** A valid instance request; each id gives a different one. */
export function instanceOrder(instanceId: bigint, changes: Partial<InstanceOrder> = {}): InstanceOrder {
  return {
    instanceId,
    productId: 1001n,
    userId: formatUserId('123'),
    source: 'ORDER',
    sourceId: String(instanceId),
    orderId: instanceId + 1_000_000n,
    name: instanceName(instanceId),
    size: { cpus: 4, memoryMb: 8192, gpu: 0, image: 'ubuntu-22.04' },
    ...changes,
  };
}

/** A job that this worker has claimed. */
export function claimedJob(instanceId: bigint, changes: Partial<InstanceOrder> = {}): InstanceJob {
  const order = instanceOrder(instanceId, changes);
  const now = new Date();
  return {
    ...{ ...order, id: order.instanceId, status: 'PROCESSING', reason: '', createdAt: now, updatedAt: now },
    ...{ attempts: 0, reportAttempts: 0, leaseEndsAt: new Date(now.getTime() + 60_000) },
  };
}

/** The message that requests it. */
export function instanceMessage(order: InstanceOrder, changes: Partial<Event> = {}): Buffer {
  const { size, ...rest } = order;
  const event: Event = {
    ...rest,
    eventType: 'INSTANCE_CREATED',
    spec: size,
    timestamp: new Date(),
    orderId: order.orderId ?? 0n,
    reason: '',
    ...changes,
  };
  return Buffer.from(Event.encode(event).finish());
}

export function openPostgres(source: string, role: string, changes: { poolSize?: number } = {}): Postgres {
  return new Postgres({
    source,
    poolSize: changes.poolSize ?? 8,
    role,
    statementTimeoutMs: 10_000,
    connectTimeoutMs: 3_000,
    applicationName: `test-${role}`,
  });
}
