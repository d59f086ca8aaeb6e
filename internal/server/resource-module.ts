import { InstanceServiceService } from '../../gen/resource/v1/instance.js';
import { InstanceLogServiceService } from '../../gen/resource/v1/instance_log.js';
import { InstanceJobUsecase } from '../biz/instance/instance-job.js';
import { InstanceLifeRepo } from '../biz/instance/instance-life.js';
import { InstanceReconcileUsecase } from '../biz/instance/instance-reconcile.js';
import { QueueConsumer } from '../biz/message-queue.js';
import { INSTANCE_JOB_OPTIONS, RECONCILE_POLICY, RETENTION_POLICY, TOKEN_REVOCATION_POLICY } from '../biz/policy.js';
import { RetentionUsecase } from '../biz/retention/retention.js';
import { TokenRevocations } from '../biz/user/token-revocation.js';
import { CONFIG } from '../conf/config.js';
import { METRICS } from '../kratos/app/metrics.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Background } from '../kratos/background/background.js';
import { Logger } from '../kratos/log/logger.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { bindService, ServiceBinding } from '../kratos/transport/dispatcher.js';
import { InstanceEventService } from '../service/instance-event.js';
import { InstanceLifeService } from '../service/instance-life.js';
import { InstanceLogService } from '../service/instance-log.js';
import { InstanceConsumer } from './instance-consumer.js';
import { InstanceReconciler } from './instance-reconciler.js';
import { InstanceWorker } from './instance-worker.js';
import { retention, retentionPolicy } from './retention.js';
import { tokenRevocationPolicy, tokenRevocationReader } from './token-revocation-reader.js';

/** The resource process's options, RPC services and background servers. */
export const resourceServerModule: ProviderSet = providers(({ create }) => {
  create(INSTANCE_JOB_OPTIONS, [CONFIG], ({ resource: { maxAttempts, retryBackoffMs, leaseMs } }) => ({
    maxAttempts,
    retryBackoffMs,
    leaseMs,
  }));

  create(RECONCILE_POLICY, [CONFIG], ({ resource: { reconcileIntervalMs, orphanGraceMs, leaseMs } }) => ({
    intervalMs: reconcileIntervalMs,
    orphanGraceMs,
    leaseMs,
  }));
  create(RETENTION_POLICY, [CONFIG], retentionPolicy);
  create(TOKEN_REVOCATION_POLICY, [CONFIG], tokenRevocationPolicy);
  create(
    Background,
    [TokenRevocations, CONFIG, Logger],
    (revocations, { auth }, logger) =>
      new Background('api', tokenRevocationReader(revocations, auth.mode === 'jwt', logger), true),
  );

  create(ServiceBinding, [InstanceLifeService], (service) => bindService(InstanceServiceService, service));
  create(ServiceBinding, [InstanceLogService], (service) => bindService(InstanceLogServiceService, service));

  create(InstanceWorker, [InstanceJobUsecase, CONFIG, Logger, Metrics], (jobs, { resource }, logger, metrics) => {
    const { concurrency, pollIntervalMs } = resource;
    return new InstanceWorker(jobs, { concurrency, pollIntervalMs }, logger, metrics);
  });
  create(
    Background,
    [RetentionUsecase, Logger, METRICS],
    (usecase, logger, registry) => new Background('retention', retention(usecase, logger, registry), false),
  );
  create(
    Background,
    [InstanceReconcileUsecase, InstanceLifeRepo, CONFIG, Logger, Metrics],
    (usecase, instances, { resource: { pollIntervalMs, reconcileIntervalMs: intervalMs } }, logger, metrics) => {
      const options = { pollIntervalMs, intervalMs };
      const reconciler = new InstanceReconciler(usecase, instances, options, logger, metrics);
      return new Background('instance_reconciler', reconciler, false);
    },
  );
  create(Background, [InstanceWorker], (worker) => new Background('instance_worker', worker, true));
  create(
    Background,
    [QueueConsumer, InstanceEventService, InstanceWorker, Logger, METRICS],
    (queue, events, worker, logger, registry) => {
      const consumer = new InstanceConsumer(queue, events, logger, registry, () => worker.wake());
      return new Background('instance_consumer', consumer, true);
    },
  );
});
