import type { Registry } from 'prom-client';
import type { QueueConsumer } from '../biz/message-queue.js';
import type { Logger } from '../kratos/log/logger.js';
import type { ContentEventService } from '../service/content-event.js';
import { MessageConsumer } from './message-consumer.js';

/** Brings changed titles to the copies in entitlements. */
export function contentConsumer(
  queue: QueueConsumer,
  events: ContentEventService,
  logger: Logger,
  registry: Registry,
): MessageConsumer {
  const handle = events.handle.bind(events);
  const options = { name: 'content_consumer', counter: 'kaimai_content_messages_total', handle };
  return new MessageConsumer(queue, options, logger, registry);
}
