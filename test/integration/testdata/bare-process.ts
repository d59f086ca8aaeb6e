import { setTimeout as sleep } from 'node:timers/promises';
import { Product, ProductServiceService } from '../../../gen/product/v1/product.js';
import { LiveConfig } from '../../../internal/conf/live.js';
import { processSettings } from '../../../internal/conf/process.js';
import { registryModule } from '../../../internal/data/shared-module.js';
import { App } from '../../../internal/kratos/app/app.js';
import { runProcess } from '../../../internal/kratos/app/process.js';
import { providers } from '../../../internal/kratos/app/wiring.js';
import { Background } from '../../../internal/kratos/background/background.js';
import { bindService, ServiceBinding } from '../../../internal/kratos/transport/dispatcher.js';
import { contextModule, sharedServerModule } from '../../../internal/server/shared-module.js';
import { containerOf } from '../../support/wiring.js';

// The chassis without a domain: a product service that takes its time, and one background server for each kind.

const unused = () => Promise.reject(new Error('not asked for in this test'));

process.exitCode = await runProcess({
  name: 'bare',
  argv: process.argv.slice(2),
  openConfig: (path: string) => new LiveConfig(path),
  settingsOf: processSettings,
  wire: (context) => {
    if (process.env.BARE_FAILS === 'wire') throw new Error('cannot be wired');
    const { logger, worker } = context;
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
    const bare = providers(({ value }) => {
      value(ServiceBinding, bindService(ProductServiceService, service));
      for (const [role, everyWorker] of [['shared', true] as const, ['single', false] as const]) {
        const start = async () => logger.info(`background ${role} in ${worker.index} of ${worker.count}`);
        value(Background, new Background(role, { name: role, start, stop: async () => undefined }, everyWorker));
      }
    });
    return containerOf([contextModule(context), registryModule, sharedServerModule, bare]).getAsync(App);
  },
});
