import { ContainerModule } from 'inversify';
import { BacklogProbe } from '../biz/background-meter.js';
import { HealthProbe } from '../biz/health-probe.js';
import { Logger } from '../biz/logger.js';
import { QueuePublisher } from '../biz/message-queue.js';
import { OutboxHandler, OutboxRepo, PublishingHandler } from '../biz/outbox.js';
import { Resources } from '../biz/resources.js';
import { Trace } from '../biz/trace.js';
import { CONFIG, type Config } from '../conf/config.js';
import { Worker } from '../conf/worker.js';
import { outboxBacklog } from './backlog.js';
import { TOPIC_INSTANCE_CREATED } from './instance.js';
import { PgOutboxRepo } from './outbox.js';
import { Postgres } from './postgres.js';
import { rabbitOptions, rabbitProbe } from './rabbitmq.js';
import { RabbitPublisher } from './rabbitmq-publisher.js';

/**
 * The outbox and where its rows go. It needs Postgres. Another topic is one more binding of OutboxHandler, in whichever
 * module knows its destination.
 */
export const outboxDataModule = new ContainerModule(({ bind }) => {
  bind(OutboxRepo).toResolvedValue((db: Postgres) => new PgOutboxRepo(db), [Postgres]);
  bind(BacklogProbe).toResolvedValue(outboxBacklog, [Postgres]);
  bind(RabbitPublisher).toResolvedValue(openPublisher, [CONFIG, Logger, Worker, Resources, Trace]);
  bind(QueuePublisher).toService(RabbitPublisher);
  bind(HealthProbe).toResolvedValue(rabbitProbe, [RabbitPublisher]);
  bind(OutboxHandler).toResolvedValue(
    (publisher: QueuePublisher) => new PublishingHandler(TOPIC_INSTANCE_CREATED, publisher),
    [QueuePublisher],
  );
});

async function openPublisher(
  config: Config,
  logger: Logger,
  worker: Worker,
  resources: Resources,
  trace: Trace,
): Promise<RabbitPublisher> {
  const { confirmTimeoutMs } = config.data.rabbitmq;
  const publisher = new RabbitPublisher({ ...rabbitOptions(config, worker), confirmTimeoutMs }, logger, trace);
  resources.add('rabbitmq publisher', () => publisher.close());
  await publisher.open();
  return publisher;
}
