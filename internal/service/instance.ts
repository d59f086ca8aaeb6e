import { invalidArgument } from '../../gen/common/v1/errors.js';
import {
  type CreateInstanceRequest,
  type GetInstanceRequestRequest,
  type GrantInstanceRequest,
  type InstanceRequest as InstanceRequestMessage,
  type InstanceServiceService,
  type ReportInstanceRequest,
  InstanceRequest_Status as Status,
} from '../../gen/instance/v1/instance.js';
import { formatUserId } from '../biz/identity.js';
import type { InstanceRequest, InstanceUsecase } from '../biz/instance/instance.js';
import type { ServiceOf } from '../kratos/transport/call-context.js';

const DEFAULT_GRANT_SOURCE = 'ACTIVITY';

export class InstanceService implements ServiceOf<typeof InstanceServiceService> {
  constructor(private readonly instances: InstanceUsecase) {}

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
    if (req.status !== Status.SUCCESS && req.status !== Status.FAILED) {
      throw invalidArgument('status must be SUCCESS or FAILED', {
        violations: [{ field: 'status', description: 'must be SUCCESS or FAILED' }],
      });
    }
    const status = req.status === Status.SUCCESS ? 'SUCCESS' : 'FAILED';
    return requestReply(
      await this.instances.reportInstance({ instanceId: req.instanceId, status, reason: req.reason }),
    );
  }
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
