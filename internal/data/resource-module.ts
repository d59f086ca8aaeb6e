import { ALL_REASONS } from '../../gen/reasons.js';
import { InstanceReporter, Provisioner } from '../biz/instance/instance-job.js';
import { InstanceLifeRepo } from '../biz/instance/instance-life.js';
import { InstanceLogRepo } from '../biz/instance/instance-log.js';
import { QueueConsumer } from '../biz/message-queue.js';
import { RetentionLease, RetentionStore } from '../biz/retention/retention.js';
import { TransactionRunner } from '../biz/transaction.js';
import { TokenRevocationSource } from '../biz/user/token-revocation.js';
import { CONFIG, type Config } from '../conf/config.js';
import { HealthProbe } from '../kratos/app/health-probe.js';
import { Resources } from '../kratos/app/resources.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Worker } from '../kratos/app/worker.js';
import { BacklogProbe } from '../kratos/background/background-meter.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { EtcdRegistry } from '../kratos/registry/etcd.js';
import { ServiceRegistry } from '../kratos/registry/service-registry.js';
import { GrpcClient } from '../kratos/transport/grpc/client.js';
import { GrpcInstanceReporter } from './grpc/product-client.js';
import { GrpcTokenRevocationSource } from './grpc/token-revocation-source.js';
import { jobBacklog } from './postgres/backlog.js';
import { PgInstanceLifeRepo } from './postgres/instance-life.js';
import { PgInstanceLogRepo } from './postgres/instance-log.js';
import { Postgres } from './postgres/postgres.js';
import { SimulatedProvisioner } from './postgres/provisioner-simulator.js';
import { Reads } from './postgres/reads.js';
import { PgRetentionLease } from './postgres/retention/lease.js';
import { PgQueueDeadLetterRetention } from './postgres/retention/queue-dead-letters.js';
import { RabbitConsumer } from './rabbitmq/consumer.js';
import { rabbitOptions, rabbitProbe } from './rabbitmq/rabbitmq.js';

/** The resource domain's ports. It needs the shared module, CONFIG, Logger, Worker and Resources. */
export const resourceDataModule: ProviderSet = providers(({ implement, resource, create, alias }) => {
  implement(InstanceLogRepo, PgInstanceLogRepo, [Postgres, Reads]);
  create(BacklogProbe, [Postgres], jobBacklog);
  alias(TransactionRunner, Postgres);
  create(RetentionLease, [Postgres], (db) => new PgRetentionLease(db, 'resource'));
  implement(RetentionStore, PgQueueDeadLetterRetention, [Postgres]);
  create(Provisioner, [Postgres, CONFIG, Resources, Logger, Metrics], openProvisioner);
  implement(InstanceLifeRepo, PgInstanceLifeRepo, [Postgres, Reads]);

  // The consumer's server opens and closes it.
  create(
    RabbitConsumer,
    [CONFIG, Logger, Worker, Metrics],
    (config, logger, worker, metrics) =>
      new RabbitConsumer(
        { ...rabbitOptions(config, worker), prefetch: config.data.rabbitmq.prefetch },
        logger,
        metrics,
      ),
  );
  alias(QueueConsumer, RabbitConsumer);
  create(HealthProbe, [RabbitConsumer], rabbitProbe);
  create(BacklogProbe, [RabbitConsumer], (consumer) => ({
    server: 'instance_consumer',
    read: () => consumer.backlog(),
  }));

  resource(GrpcClient, {
    name: 'product client',
    needs: [CONFIG, ServiceRegistry, Metrics],
    make: ({ resource: { productAddr }, auth, server, client: { tls } }, registry, metrics) => {
      const client = new GrpcClient({
        addr: productAddr,
        // Only etcd resolves the addresses `discovery:///<service>`.
        discovery: registry instanceof EtcdRegistry ? registry : undefined,
        metadata: { 'x-internal-token': auth.internalToken },
        reasons: ALL_REASONS,
        timeoutMs: server.grpc.timeoutMs,
        tls,
      });
      client.observe(metrics);
      return client;
    },
    close: (client) => client.close(),
  });
  implement(InstanceReporter, GrpcInstanceReporter, [GrpcClient]);
  implement(TokenRevocationSource, GrpcTokenRevocationSource, [GrpcClient]);
});

async function openProvisioner(
  db: Postgres,
  { resource }: Config,
  resources: Resources,
  logger: Logger,
  metrics: Metrics,
): Promise<Provisioner> {
  if (resource.provisioner === 'simulator') return new SimulatedProvisioner(db, resource.simulator);
  // Its client takes a second and 85 MB to load.
  const { KubernetesProvisioner } = await import('./kubernetes/provisioner.js');
  const provisioner = new KubernetesProvisioner(resource.kubernetes, logger, metrics);
  resources.add('kubernetes client', () => provisioner.close());
  return provisioner;
}
