import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Event } from '../../gen/instance/v1/event.js';
import { formatUserId } from '../biz/identity.js';
import type { InstanceLogUsecase, InstanceMessage } from '../biz/instance/instance-log.js';
import type { Delivery, Verdict } from '../biz/message-queue.js';
import { errorText } from '../kratos/errors/error-text.js';
import { traceparentOf } from '../kratos/tracing/traceparent.js';

const CREATED = 'INSTANCE_CREATED';
const REMOVED = 'INSTANCE_REMOVED';
/** Events are far smaller; a larger message is not worth storing in the database. */
const PAYLOAD_MAX_BYTES = 64 * 1024;

/** Handles the messages of the queue resource.instance.created: instances to create, and instances to remove. */
export class InstanceEventService {
  constructor(private readonly logs: InstanceLogUsecase) {}

  /**
   * Stores a batch of instance requests.
   * @returns one verdict per message: `reject` for messages that are too large to be stored
   * @throws UNAVAILABLE if the database is unavailable
   */
  async handle(queue: string, deliveries: readonly Delivery[]): Promise<readonly Verdict[]> {
    const kept = deliveries.filter((d) => d.payload.length <= PAYLOAD_MAX_BYTES);
    const messages = kept.map((d): InstanceMessage => ({ payload: d.payload, order: orderOf(d) }));
    await this.logs.record(queue, messages);
    return deliveries.map((d) => (d.payload.length <= PAYLOAD_MAX_BYTES ? 'accept' : 'reject'));
  }
}

function orderOf({ payload, headers }: Delivery): InstanceMessage['order'] {
  const order = decode(payload);
  const trace = traceparentOf(headers.traceparent);
  return 'fault' in order || 'removal' in order || trace === undefined ? order : { ...order, trace };
}

function decode(payload: Uint8Array): InstanceMessage['order'] {
  let event: Event;
  try {
    event = Event.decode(new BinaryReader(payload, decodeUtf8));
  } catch (err) {
    return { fault: `not an instance.v1.Event: ${errorText(err)}` };
  }
  const { eventType, instanceId, reason } = event;
  if (eventType === REMOVED) return { removal: { instanceId, reason } };
  if (eventType !== CREATED) return { fault: `event_type must be ${CREATED} or ${REMOVED}, not "${eventType}"` };
  if (!event.spec) return { fault: 'spec is missing' };
  let userId: string;
  try {
    userId = formatUserId(event.userId);
  } catch (err) {
    return { fault: errorText(err) };
  }
  return {
    instanceId,
    productId: event.productId,
    userId,
    source: event.source,
    sourceId: event.sourceId,
    orderId: event.orderId === 0n ? undefined : event.orderId,
    name: event.name,
    size: {
      cpus: event.spec.cpus,
      memoryMb: event.spec.memoryMb,
      gpu: event.spec.gpu,
      image: event.spec.image,
    },
  };
}

/** proto3 strings are UTF-8; the protobuf reader would replace invalid bytes silently. */
function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}
