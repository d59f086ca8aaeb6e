import { Container } from 'inversify';
import { resourceBizModule } from '../../internal/biz/resource-module.js';
import { CONFIG } from '../../internal/conf/config.js';
import { LiveConfig } from '../../internal/conf/live.js';
import { resourceDataModule } from '../../internal/data/resource-module.js';
import { registryModule, sharedDataModule } from '../../internal/data/shared-module.js';
import { App } from '../../internal/kratos/app/app.js';
import type { ProcessContext } from '../../internal/kratos/app/process.js';
import { Resources } from '../../internal/kratos/app/resources.js';
import { Worker } from '../../internal/kratos/app/worker.js';
import { Logger } from '../../internal/kratos/log/logger.js';
import { resourceServerModule } from '../../internal/server/resource-module.js';
import { serverModule } from '../../internal/server/shared-module.js';
import { resourceServiceModule } from '../../internal/service/resource-module.js';

/** The whole object graph of the process. */
export async function wire({ config, live, logger, worker, resources }: ProcessContext<LiveConfig>): Promise<App> {
  const container = new Container({ defaultScope: 'Singleton' });
  container.bind(CONFIG).toConstantValue(config);
  container.bind(LiveConfig).toConstantValue(live);
  container.bind(Logger).toConstantValue(logger);
  container.bind(Worker).toConstantValue(worker);
  container.bind(Resources).toConstantValue(resources);
  container.load(
    registryModule,
    sharedDataModule,
    resourceDataModule,
    resourceBizModule,
    resourceServiceModule,
    resourceServerModule,
    serverModule,
  );
  return container.getAsync(App);
}
