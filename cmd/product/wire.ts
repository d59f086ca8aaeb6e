import { Container } from 'inversify';
import { Logger } from '../../internal/biz/logger.js';
import { bizModule } from '../../internal/biz/module.js';
import { Resources } from '../../internal/biz/resources.js';
import { CONFIG } from '../../internal/conf/config.js';
import { LiveConfig } from '../../internal/conf/live.js';
import { Worker } from '../../internal/conf/worker.js';
import { connectionsModule, productDataModule } from '../../internal/data/module.js';
import { outboxDataModule } from '../../internal/data/outbox-module.js';
import { registryModule } from '../../internal/data/registry-module.js';
import { App } from '../../internal/server/app.js';
import { serverModule } from '../../internal/server/module.js';
import type { ProcessContext } from '../../internal/server/process.js';
import { checkProductConfig, productServerModule } from '../../internal/server/product-module.js';
import { productServiceModule } from '../../internal/service/module.js';

/** The whole object graph of the process. */
export async function wire({ config, live, logger, worker, resources }: ProcessContext): Promise<App> {
  checkProductConfig(config);
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(CONFIG).toConstantValue(config);
  container.bind(LiveConfig).toConstantValue(live);
  container.bind(Logger).toConstantValue(logger);
  container.bind(Worker).toConstantValue(worker);
  container.bind(Resources).toConstantValue(resources);
  container.load(
    connectionsModule,
    registryModule,
    productDataModule,
    outboxDataModule,
    bizModule,
    productServiceModule,
    productServerModule,
    serverModule,
  );
  return container.getAsync(App);
}
