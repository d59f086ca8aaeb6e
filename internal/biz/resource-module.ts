import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Logger } from '../kratos/log/logger.js';
import { Trace } from '../kratos/tracing/trace.js';
import { InstanceJobUsecase, InstanceReporter, Provisioner } from './instance/instance-job.js';
import { InstanceLogRepo, InstanceLogUsecase } from './instance/instance-log.js';
import { INSTANCE_JOB_OPTIONS } from './policy.js';

/** The resource domain's usecases. They need its ports, which the data layer binds. */
export const resourceBizModule: ProviderSet = providers(({ provide }) => {
  provide(InstanceLogUsecase, [InstanceLogRepo, Logger]);
  provide(InstanceJobUsecase, [InstanceLogRepo, Provisioner, InstanceReporter, INSTANCE_JOB_OPTIONS, Logger, Trace]);
});
