import { InstanceLifeUsecase } from '../biz/instance/instance-life.js';
import { InstanceLogUsecase } from '../biz/instance/instance-log.js';
import { type ProviderSet, providers } from '../kratos/app/wiring.js';
import { InstanceEventService } from './instance-event.js';
import { InstanceLifeService } from './instance-life.js';
import { InstanceLogService } from './instance-log.js';

/** The services of the resource process. The server layer binds them to their RPC definitions and their queue. */
export const resourceServiceModule: ProviderSet = providers(({ provide }) => {
  provide(InstanceLogService, [InstanceLogUsecase]);
  provide(InstanceLifeService, [InstanceLifeUsecase]);
  provide(InstanceEventService, [InstanceLogUsecase]);
});
