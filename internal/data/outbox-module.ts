import { ContainerModule } from 'inversify';
import { QueuePublisher } from '../biz/message-queue.js';
import { OutboxHandler, OutboxRepo, PublishingHandler } from '../biz/outbox.js';
import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { Worker } from '../kratos/app/worker.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { Logger } from '../kratos/log/logger.js';
import { Trace } from '../kratos/tracing/trace.js';
import { outboxBacklog } from './postgres/backlog.js';
import { TOPIC_INSTANCE_CREATED } from './postgres/instance.js';
import { PgOutboxRepo } from './postgres/outbox.js';
import { Postgres } from './postgres/postgres.js';
import { RabbitPublisher } from './rabbitmq/publisher.js';
import { rabbitOptions, rabbitProbe } from './rabbitmq/rabbitmq.js';

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
