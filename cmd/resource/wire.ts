import { Container } from 'inversify';
import { resourceBizModule } from '../../internal/biz/resource-module.js';
import type { LiveConfig } from '../../internal/conf/live.js';
import { resourceDataModule } from '../../internal/data/resource-module.js';
import { registryModule, sharedDataModule } from '../../internal/data/shared-module.js';
import { App } from '../../internal/kratos/app/app.js';
import type { ProcessContext } from '../../internal/kratos/app/process.js';
import type { ProviderSet } from '../../internal/kratos/app/wiring.js';
import { resourceServerModule } from '../../internal/server/resource-module.js';
import { contextModule, sharedServerModule } from '../../internal/server/shared-module.js';
import { resourceServiceModule } from '../../internal/service/resource-module.js';

/** All modules of the process, except the one of its context. */
export const resourceModules: readonly ProviderSet[] = [
  registryModule,
  sharedDataModule,
  resourceDataModule,
  resourceBizModule,
  resourceServiceModule,
  resourceServerModule,
  sharedServerModule,
];

/** Builds the object graph of the process. */
export async function wire(context: ProcessContext<LiveConfig>): Promise<App> {
  const container = new Container({ defaultScope: 'Singleton' });
  container.load(contextModule(context), ...resourceModules);
  return container.getAsync(App);
}
