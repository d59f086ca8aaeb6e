import type { NewOutboxRow } from '../outbox.js';

/** Outbox topic of instances that the resource domain must remove. ref_id is the instance. */
export const TOPIC_INSTANCE_REMOVED = 'instance.removed';

/** The message that asks the resource domain to remove an instance, as JSON; the data layer publishes it as `instance.v1.Event`. */
export function removalRow(instanceId: bigint, reason: string): NewOutboxRow {
  const payload = Buffer.from(JSON.stringify({ instanceId: String(instanceId), reason }));
  return { topic: TOPIC_INSTANCE_REMOVED, refId: instanceId, payload };
}

export function decodeInstanceRemoval(payload: Uint8Array): { readonly instanceId: bigint; readonly reason: string } {
  const { instanceId, reason } = JSON.parse(Buffer.from(payload).toString()) as { instanceId: string; reason: string };
  return { instanceId: BigInt(instanceId), reason };
}
