import {
  type DeleteInstanceRequest,
  type GetInstanceRequest,
  type Instance as InstanceMessage,
  type InstanceServiceService,
  type ListInstancesReply,
  type ListInstancesRequest,
  Instance_State as State,
} from '../../gen/resource/v1/instance.js';
import { formatUserId } from '../biz/identity.js';
import type { Instance, InstanceLifeUsecase, InstanceState } from '../biz/instance/instance-life.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { identityOf } from './caller.js';

/** `resource.v1.InstanceService`. */
export class InstanceLifeService implements ServiceOf<typeof InstanceServiceService> {
  constructor(private readonly instances: InstanceLifeUsecase) {}

  async listInstances(req: ListInstancesRequest, ctx: CallContext): Promise<ListInstancesReply> {
    const { items, total } = await this.instances.list(
      identityOf(ctx),
      { state: stateOf(req.state), userId: req.userId === '' ? undefined : formatUserId(req.userId) },
      { offset: req.offset, limit: req.limit },
    );
    return { instances: items.map(instanceReply), total };
  }

  async getInstance(req: GetInstanceRequest, ctx: CallContext): Promise<InstanceMessage> {
    return instanceReply(await this.instances.get(identityOf(ctx), req.instanceId));
  }

  async deleteInstance(req: DeleteInstanceRequest, ctx: CallContext): Promise<InstanceMessage> {
    return instanceReply(await this.instances.delete(identityOf(ctx), req.instanceId));
  }
}

function stateOf(state: State): InstanceState | undefined {
  switch (state) {
    case State.STARTING:
      return 'STARTING';
    case State.RUNNING:
      return 'RUNNING';
    case State.DOWN:
      return 'DOWN';
    case State.LOST:
      return 'LOST';
    case State.REMOVING:
      return 'REMOVING';
    case State.REMOVED:
      return 'REMOVED';
    case State.FAILED:
      return 'FAILED';
    case State.STATE_UNSPECIFIED:
    case State.UNRECOGNIZED:
      return undefined;
    default:
      return state satisfies never;
  }
}

function instanceReply(instance: Instance): InstanceMessage {
  const { size, state, orderId, ...rest } = instance;
  return { ...rest, orderId: orderId ?? 0n, spec: { ...size }, state: State[state] };
}
