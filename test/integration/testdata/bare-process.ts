import { setTimeout as sleep } from 'node:timers/promises';
import { Container } from 'inversify';
import { Product, ProductServiceService } from '../../../gen/product/v1/product.js';
import { CONFIG } from '../../../internal/conf/config.js';
import { LiveConfig } from '../../../internal/conf/live.js';
import { processSettings } from '../../../internal/conf/process.js';
import { registryModule } from '../../../internal/data/shared-module.js';
import { App } from '../../../internal/kratos/app/app.js';
import { runProcess } from '../../../internal/kratos/app/process.js';
import { Resources } from '../../../internal/kratos/app/resources.js';
import { Worker } from '../../../internal/kratos/app/worker.js';
import { Background } from '../../../internal/kratos/background/background.js';
import { Logger } from '../../../internal/kratos/log/logger.js';
import { bindService, ServiceBinding } from '../../../internal/kratos/transport/dispatcher.js';
import { serverModule } from '../../../internal/server/shared-module.js';

// The chassis without a domain: a product service that takes its time, and one background server for each kind.

const unused = () => Promise.reject(new Error('not asked for in this test'));

process.exitCode = await runProcess({
  name: 'bare',
  argv: process.argv.slice(2),
  openConfig: (path: string) => new LiveConfig(path),
  settingsOf: processSettings,
  wire: ({ config, live, logger, worker, resources }) => {
    if (process.env.BARE_FAILS === 'wire') throw new Error('cannot be wired');
    const container = new Container({ defaultScope: 'Singleton' });
    container.bind(CONFIG).toConstantValue(config);
    container.bind(LiveConfig).toConstantValue(live);
    container.bind(Logger).toConstantValue(logger);
    container.bind(Worker).toConstantValue(worker);
    container.bind(Resources).toConstantValue(resources);
    container.load(registryModule, serverModule);
    const service = {
      getProduct: async ({ id }: { id: bigint }) => {
        await sleep(Number(id % 20n));
        return Product.create({ id, name: String(worker.index) });
      },
      createProduct: unused,
      createProductSpec: unused,
      updateProduct: unused,
      listProducts: async () => ({ products: [], total: 0n }),
    };
    container.bind(ServiceBinding).toConstantValue(bindService(ProductServiceService, service));
    for (const [role, everyWorker] of [['shared', true] as const, ['single', false] as const]) {
      const start = async () => logger.info(`background ${role} in ${worker.index} of ${worker.count}`);
      container
        .bind(Background)
        .toConstantValue(new Background(role, { name: role, start, stop: async () => undefined }, everyWorker));
    }
    return container.getAsync(App);
  },
});
