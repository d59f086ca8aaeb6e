import { BinaryReader } from '@bufbuild/protobuf/wire';
import { Event } from '../../gen/instance/v1/event.js';
import { formatUserId } from '../biz/identity.js';
import type { InstanceLogUsecase, InstanceMessage, InstanceOrder } from '../biz/instance/instance-log.js';
import type { Delivery, Verdict } from '../biz/message-queue.js';

const EVENT_TYPE = 'INSTANCE_CREATED';
/** No event comes near; what is larger is not worth a place in the database. */
const PAYLOAD_MAX_BYTES = 64 * 1024;

/** Takes the messages of the queue resource.instance.created. */
export class InstanceEventService {
  constructor(private readonly logs: InstanceLogUsecase) {}

  /**
   * Puts a batch on record.
   * @returns one verdict for each: `reject` for those that are too large to be kept
   * @throws UNAVAILABLE when the database is away
   */
  async handle(queue: string, deliveries: readonly Delivery[]): Promise<readonly Verdict[]> {
    const kept = deliveries.filter((d) => d.payload.length <= PAYLOAD_MAX_BYTES);
    const messages = kept.map((d): InstanceMessage => ({ payload: d.payload, order: orderOf(d) }));
    await this.logs.record(queue, messages);
    return deliveries.map((d) => (d.payload.length <= PAYLOAD_MAX_BYTES ? 'accept' : 'reject'));
  }
}

/** What the message itself says of its trace; its publisher may be anybody. */
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

function orderOf({ payload, headers }: Delivery): InstanceOrder | { readonly fault: string } {
  const order = decode(payload);
  const trace = headers.traceparent;
  return 'fault' in order || typeof trace !== 'string' || !TRACEPARENT.test(trace) ? order : { ...order, trace };
}

function decode(payload: Uint8Array): InstanceOrder | { readonly fault: string } {
  let event: Event;
  try {
    event = Event.decode(new BinaryReader(payload, decodeUtf8));
  } catch (err) {
    return { fault: `not an instance.v1.Event: ${(err as Error).message}` };
  }
  if (event.eventType !== EVENT_TYPE) return { fault: `event_type must be ${EVENT_TYPE}, not "${event.eventType}"` };
  if (!event.spec) return { fault: 'spec is missing' };
  let userId: string;
  try {
    userId = formatUserId(event.userId);
  } catch (err) {
    return { fault: (err as Error).message };
  }
  return {
    instanceId: event.instanceId,
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

/** proto3 strings are UTF-8; the reader's own decoding would put replacement characters in their place. */
function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
}
