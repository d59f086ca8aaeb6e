import { ContainerModule } from 'inversify';
import { Registry } from 'prom-client';
import { InstanceLogServiceService } from '../../gen/resource/v1/instance_log.js';
import { InstanceJobUsecase, InstanceReporter, Provisioner } from '../biz/instance/instance-job.js';
import { InstanceLogRepo, InstanceLogUsecase } from '../biz/instance/instance-log.js';
import { QueueConsumer } from '../biz/message-queue.js';
import { CONFIG, type Config } from '../conf/config.js';
import { Background } from '../kratos/background/background.js';
import { Logger } from '../kratos/log/logger.js';
import { Trace } from '../kratos/tracing/trace.js';
import { bindService, ServiceBinding } from '../kratos/transport/dispatcher.js';
import { InstanceEventService } from '../service/instance-event.js';
import { InstanceLogService } from '../service/instance-log.js';
import { InstanceConsumer } from './instance-consumer.js';
import { InstanceWorker } from './instance-worker.js';

/** What the resource process serves and what it does by itself. */
export const resourceServerModule = new ContainerModule(({ bind }) => {
  bind(InstanceLogUsecase).toResolvedValue(
    (logs: InstanceLogRepo, logger: Logger) => new InstanceLogUsecase(logs, logger),
    [InstanceLogRepo, Logger],
  );
  bind(InstanceJobUsecase).toResolvedValue(
    (
      logs: InstanceLogRepo,
      provisioner: Provisioner,
      reporter: InstanceReporter,
      { resource: { maxAttempts, retryBackoffMs, leaseMs } }: Config,
      logger: Logger,
      trace: Trace,
    ) => new InstanceJobUsecase(logs, provisioner, reporter, { maxAttempts, retryBackoffMs, leaseMs }, logger, trace),
    [InstanceLogRepo, Provisioner, InstanceReporter, CONFIG, Logger, Trace],
  );

  bind(ServiceBinding).toResolvedValue(
    (s: InstanceLogService) => bindService(InstanceLogServiceService, s),
    [InstanceLogService],
  );

  bind(InstanceWorker).toResolvedValue(
    (jobs: InstanceJobUsecase, { resource: { concurrency, pollIntervalMs } }: Config, logger: Logger, reg: Registry) =>
      new InstanceWorker(jobs, { concurrency, pollIntervalMs }, logger, reg),
    [InstanceJobUsecase, CONFIG, Logger, Registry],
  );
  bind(Background).toResolvedValue(
    (worker: InstanceWorker) => new Background('instance_worker', worker, true),
    [InstanceWorker],
  );
  bind(Background).toResolvedValue(
    (queue: QueueConsumer, events: InstanceEventService, worker: InstanceWorker, logger: Logger, reg: Registry) =>
      new Background('instance_consumer', new InstanceConsumer(queue, events, logger, reg, () => worker.wake()), true),
    [QueueConsumer, InstanceEventService, InstanceWorker, Logger, Registry],
  );
});
