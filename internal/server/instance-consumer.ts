import type { Registry } from 'prom-client';
import type { Delivery, QueueConsumer } from '../biz/message-queue.js';
import type { Logger } from '../kratos/log/logger.js';
import type { InstanceEventService } from '../service/instance-event.js';
import { MessageConsumer } from './message-consumer.js';

/** Takes the product domain's messages and puts them on record. */
export class InstanceConsumer extends MessageConsumer {
  constructor(
    queue: QueueConsumer,
    events: InstanceEventService,
    logger: Logger,
    registry: Registry,
    onStored: () => void,
  ) {
    const handle = async (deliveries: readonly Delivery[]) => {
      const verdicts = await events.handle(queue.queue, deliveries);
      onStored();
      return verdicts;
    };
    super(queue, { name: 'instance_consumer', counter: 'kaimai_instance_messages_total', handle }, logger, registry);
  }
}
