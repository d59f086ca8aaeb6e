import { internal, invalidArgument } from '../../gen/common/v1/errors.js';
import {
  type CreateInstanceRequest,
  type GetInstanceRequestRequest,
  type GrantInstanceRequest,
  type InstanceRequest as InstanceRequestMessage,
  type InstanceServiceService,
  type ReportInstanceRequest,
  type ReportInstancesReply,
  type ReportInstancesRequest,
  InstanceRequest_Status as Status,
} from '../../gen/instance/v1/instance.js';
import { formatUserId } from '../biz/identity.js';
import type { InstanceReport, InstanceRequest, InstanceUsecase } from '../biz/instance/instance.js';
import { KratosError } from '../kratos/errors/error.js';
import type { Logger } from '../kratos/log/logger.js';
import type { ServiceOf } from '../kratos/transport/call-context.js';

const DEFAULT_GRANT_SOURCE = 'ACTIVITY';

export class InstanceService implements ServiceOf<typeof InstanceServiceService> {
  constructor(
    private readonly instances: InstanceUsecase,
    private readonly logger: Logger,
  ) {}

  async createInstance(req: CreateInstanceRequest): Promise<InstanceRequestMessage> {
    return requestReply(
      await this.instances.createInstance({
        productId: req.productId,
        userId: formatUserId(req.userId),
        source: req.source,
        sourceId: req.sourceId,
        orderId: req.orderId === 0n ? undefined : req.orderId,
      }),
    );
  }

  async grantInstance(req: GrantInstanceRequest): Promise<InstanceRequestMessage> {
    return requestReply(
      await this.instances.createInstance({
        productId: req.productId,
        userId: formatUserId(req.userId),
        source: req.source === '' ? DEFAULT_GRANT_SOURCE : req.source,
        sourceId: req.sourceId,
      }),
    );
  }

  async getInstanceRequest(req: GetInstanceRequestRequest): Promise<InstanceRequestMessage> {
    return requestReply(await this.instances.getRequest(req.instanceId));
  }

  async reportInstance(req: ReportInstanceRequest): Promise<InstanceRequestMessage> {
    return requestReply(await this.instances.reportInstance(reportOf(req)));
  }

  async reportInstances({ reports }: ReportInstancesRequest): Promise<ReportInstancesReply> {
    const failures = await this.instances.reportInstances(reports.map(reportOf));
    return {
      results: reports.map(({ instanceId }, i) => {
        const failure = failures[i];
        if (failure === undefined) return { instanceId, reason: '', message: '' };
        const { reason, message } = failure instanceof KratosError ? failure : this.unexpected(instanceId, failure);
        return { instanceId, reason, message };
      }),
    };
  }

  /** The caller learns no more of it than of an unexpected error of any other call. */
  private unexpected(instanceId: bigint, err: unknown): KratosError {
    this.logger.error('the report of an instance failed', { instanceId: String(instanceId), err });
    return internal('internal error');
  }
}

function reportOf({ instanceId, status, reason }: ReportInstanceRequest): InstanceReport {
  if (status !== Status.SUCCESS && status !== Status.FAILED) {
    throw invalidArgument('status must be SUCCESS or FAILED', {
      violations: [{ field: 'status', description: 'must be SUCCESS or FAILED' }],
    });
  }
  return { instanceId, status: status === Status.SUCCESS ? 'SUCCESS' : 'FAILED', reason };
}

function requestReply(request: InstanceRequest): InstanceRequestMessage {
  return {
    instanceId: request.instanceId,
    productId: request.productId,
    userId: request.userId,
    source: request.source,
    sourceId: request.sourceId,
    orderId: request.orderId ?? 0n,
    status: Status[request.status],
    reason: request.reason,
    createdAt: request.createdAt,
    reportedAt: request.reportedAt,
  };
}
