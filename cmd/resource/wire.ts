import { Container } from 'inversify';
import { CONFIG } from '../../internal/conf/config.js';
import { LiveConfig } from '../../internal/conf/live.js';
import { connectionsModule } from '../../internal/data/product-module.js';
import { registryModule } from '../../internal/data/registry-module.js';
import { resourceDataModule } from '../../internal/data/resource-module.js';
import { App } from '../../internal/kratos/app/app.js';
import type { ProcessContext } from '../../internal/kratos/app/process.js';
import { Resources } from '../../internal/kratos/app/resources.js';
import { Worker } from '../../internal/kratos/app/worker.js';
import { Logger } from '../../internal/kratos/log/logger.js';
import { resourceServerModule } from '../../internal/server/resource-module.js';
import { serverModule } from '../../internal/server/shared-module.js';
import { resourceServiceModule } from '../../internal/service/product-module.js';

/** The whole object graph of the process. */
export function wire({ config, live, logger, worker, resources }: ProcessContext): Promise<App> {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(CONFIG).toConstantValue(config);
  container.bind(LiveConfig).toConstantValue(live);
  container.bind(Logger).toConstantValue(logger);
  container.bind(Worker).toConstantValue(worker);
  container.bind(Resources).toConstantValue(resources);
  container.load(
    connectionsModule,
    registryModule,
    resourceDataModule,
    resourceServiceModule,
    resourceServerModule,
    serverModule,
  );
  return container.getAsync(App);
}
