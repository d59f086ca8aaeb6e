import { Container } from 'inversify';
import { productBizModule } from '../../internal/biz/product-module.js';
import type { LiveConfig } from '../../internal/conf/live.js';
import { productDataModule } from '../../internal/data/product-module.js';
import { registryModule, sharedDataModule } from '../../internal/data/shared-module.js';
import { App } from '../../internal/kratos/app/app.js';
import type { ProcessContext } from '../../internal/kratos/app/process.js';
import type { ProviderSet } from '../../internal/kratos/app/wiring.js';
import { checkProductConfig, productServerModule } from '../../internal/server/product-module.js';
import { contextModule, sharedServerModule } from '../../internal/server/shared-module.js';
import { productServiceModule } from '../../internal/service/product-module.js';

/** All modules of the process, except the one of its context. */
export const productModules: readonly ProviderSet[] = [
  registryModule,
  sharedDataModule,
  productDataModule,
  productBizModule,
  productServiceModule,
  productServerModule,
  sharedServerModule,
];

/** Builds the object graph of the process. */
export async function wire(context: ProcessContext<LiveConfig>): Promise<App> {
  checkProductConfig(context.config);
  const container = new Container({ defaultScope: 'Singleton' });
  container.load(contextModule(context), ...productModules);
  return container.getAsync(App);
}
