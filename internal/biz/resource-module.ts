import { all, type ProviderSet, providers } from '../kratos/app/wiring.js';
import { Logger } from '../kratos/log/logger.js';
import { Trace } from '../kratos/tracing/trace.js';
import { InstanceJobUsecase, InstanceReporter, Provisioner } from './instance/instance-job.js';
import { InstanceLifeRepo, InstanceLifeUsecase } from './instance/instance-life.js';
import { InstanceLogRepo, InstanceLogUsecase } from './instance/instance-log.js';
import { InstanceReconcileUsecase } from './instance/instance-reconcile.js';
import { INSTANCE_JOB_OPTIONS, RECONCILE_POLICY, RETENTION_POLICY, TOKEN_REVOCATION_POLICY } from './policy.js';
import { RetentionLease, RetentionStore, RetentionUsecase } from './retention/retention.js';
import { TransactionRunner } from './transaction.js';
import { TokenRevocationSource, TokenRevocations } from './user/token-revocation.js';

/** The resource domain's usecases. They need its ports, which the data layer binds. */
export const resourceBizModule: ProviderSet = providers(({ provide }) => {
  provide(RetentionUsecase, [TransactionRunner, RetentionLease, all(RetentionStore), RETENTION_POLICY]);
  provide(TokenRevocations, [TokenRevocationSource, TOKEN_REVOCATION_POLICY]);
  provide(InstanceLogUsecase, [InstanceLogRepo, InstanceLifeRepo, Logger]);
  provide(InstanceLifeUsecase, [InstanceLifeRepo]);
  provide(InstanceReconcileUsecase, [InstanceLifeRepo, Provisioner, RECONCILE_POLICY, Logger]);
  provide(InstanceJobUsecase, [InstanceLogRepo, Provisioner, InstanceReporter, INSTANCE_JOB_OPTIONS, Logger, Trace]);
});
