import { Event } from '../../../gen/instance/v1/event.js';
import { decodeInstanceRemoval } from '../../biz/order/instance-removal.js';

/** The message of an outbox row of topic `instance.removed`. */
export function instanceRemovalMessage(payload: Uint8Array): Uint8Array {
  return Event.encode(Event.fromPartial({ eventType: 'INSTANCE_REMOVED', ...decodeInstanceRemoval(payload) })).finish();
}
