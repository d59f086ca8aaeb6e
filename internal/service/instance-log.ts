import {
  type GetInstanceStatsRequest,
  type InstanceLog as InstanceLogMessage,
  type InstanceLogServiceService,
  type InstanceStats as InstanceStatsMessage,
  type ListInstanceLogsReply,
  type ListInstanceLogsRequest,
  InstanceLog_Status as Status,
} from '../../gen/resource/v1/instance_log.js';
import type { InstanceLog, InstanceLogUsecase } from '../biz/instance/instance-log.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { identityOf } from './caller.js';
import { enumName } from './enum-name.js';

export class InstanceLogService implements ServiceOf<typeof InstanceLogServiceService> {
  constructor(private readonly logs: InstanceLogUsecase) {}

  async listInstanceLogs(req: ListInstanceLogsRequest, ctx: CallContext): Promise<ListInstanceLogsReply> {
    const { items, total } = await this.logs.list(
      identityOf(ctx),
      {
        source: req.source === '' ? undefined : req.source,
        sourceIds: req.sourceId === '' ? undefined : spellingsOf(req.sourceId),
        productId: req.productId === 0n ? undefined : req.productId,
        instanceId: req.instanceId === 0n ? undefined : req.instanceId,
        status: enumName(Status, req.status),
      },
      { offset: req.offset, limit: req.limit },
    );
    return { logs: items.map(logReply), total };
  }

  async getInstanceStats(req: GetInstanceStatsRequest): Promise<InstanceStatsMessage> {
    const { bySource, byMinute } = await this.logs.stats(req.since);
    return { bySource: [...bySource], byMinute: [...byMinute] };
  }
}

/** An order id as the number of the order and without ORD: logs of earlier versions have the bare id. */
function spellingsOf(sourceId: string): readonly string[] {
  const [, id] = /^(?:ORD)?([0-9]+)$/.exec(sourceId) ?? [];
  return id === undefined ? [sourceId] : [`ORD${id}`, id];
}

function logReply(log: InstanceLog): InstanceLogMessage {
  return {
    id: log.id,
    productId: log.productId,
    userId: log.userId,
    instanceId: log.instanceId,
    source: log.source,
    sourceId: log.sourceId,
    status: Status[log.status],
    reason: log.reason,
    createdAt: log.createdAt,
    updatedAt: log.updatedAt,
  };
}
