import { ContainerModule } from 'inversify';
import { ALL_REASONS } from '../../gen/reasons.js';
import { InstanceReporter, Provisioner } from '../biz/instance/instance-job.js';
import { InstanceLogRepo } from '../biz/instance/instance-log.js';
import { QueueConsumer } from '../biz/message-queue.js';
import { CONFIG, type Config } from '../conf/config.js';
import { ConfigError } from '../conf/load.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { Worker } from '../kratos/app/worker.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { Logger } from '../kratos/log/logger.js';
import { Registry } from '../kratos/registry/registry.js';
import { GrpcClient } from '../kratos/transport/grpc/client.js';
import { GrpcInstanceReporter } from './grpc/product-client.js';
import { jobBacklog } from './postgres/backlog.js';
import { PgInstanceLogRepo } from './postgres/instance-log.js';
import { Postgres } from './postgres/postgres.js';
import { SimulatedProvisioner } from './postgres/provisioner-simulator.js';
import { RabbitConsumer } from './rabbitmq/consumer.js';
import { rabbitOptions, rabbitProbe } from './rabbitmq/rabbitmq.js';
import { discoveryOf } from './registry-module.js';

/** The resource domain's side of its ports. It needs Postgres and Registry. */
export const resourceDataModule = new ContainerModule(({ bind }) => {
  bind(BacklogProbe).toResolvedValue(jobBacklog, [Postgres]);
  bind(BacklogProbe).toResolvedValue(
    (consumer: RabbitConsumer): BacklogProbe => ({ server: 'instance_consumer', read: () => consumer.backlog() }),
    [RabbitConsumer],
  );
  bind(InstanceLogRepo).toResolvedValue((db: Postgres) => new PgInstanceLogRepo(db), [Postgres]);
  bind(Provisioner).toResolvedValue(openProvisioner, [Postgres, CONFIG]);
  bind(InstanceReporter).toResolvedValue(openReporter, [CONFIG, Resources, Registry]);
  bind(RabbitConsumer).toResolvedValue(
    (config: Config, logger: Logger, worker: Worker) =>
      new RabbitConsumer({ ...rabbitOptions(config, worker), prefetch: config.data.rabbitmq.prefetch }, logger),
    [CONFIG, Logger, Worker],
  );
  bind(QueueConsumer).toService(RabbitConsumer);
  bind(HealthProbe).toResolvedValue(rabbitProbe, [RabbitConsumer]);
});

function openProvisioner(db: Postgres, { resource: { simulator, leaseMs } }: Config): Provisioner {
  if (simulator.delayMs >= leaseMs) {
    throw new ConfigError('configuration', [
      'resource.simulator.delay: must be shorter than resource.lease, or no creation ends in time',
    ]);
  }
  return new SimulatedProvisioner(db, simulator);
}

function openReporter(config: Config, resources: Resources, registry: Registry): InstanceReporter {
  const client = new GrpcClient({
    addr: config.resource.productAddr,
    discovery: discoveryOf(registry),
    metadata: { 'x-internal-token': config.auth.internalToken },
    reasons: ALL_REASONS,
    timeoutMs: config.server.grpc.timeoutMs,
  });
  resources.add('product client', async () => client.close());
  return new GrpcInstanceReporter(client);
}
