import { ContainerModule } from 'inversify';
import { Registry } from 'prom-client';
import { CatalogServiceService } from '../../gen/catalog/v1/catalog.js';
import { InstanceServiceService } from '../../gen/instance/v1/instance.js';
import { OrderServiceService } from '../../gen/order/v1/order.js';
import { ProductServiceService } from '../../gen/product/v1/product.js';
import { SeckillServiceService } from '../../gen/seckill/v1/seckill.js';
import { UserServiceService } from '../../gen/user/v1/user.js';
import { OrderUsecase } from '../biz/order/order.js';
import { OutboxHandler, OutboxRepo, OutboxUsecase } from '../biz/outbox.js';
import { POLICY, type Policy } from '../biz/policy.js';
import { PurchaseConsumer } from '../biz/seckill/purchase-stream.js';
import { SaleUsecase } from '../biz/seckill/sale.js';
import { CONFIG, type Config } from '../conf/config.js';
import { DEVELOPMENT_TOKEN_SECRET } from '../conf/defaults.js';
import { LiveConfig } from '../conf/live.js';
import { ConfigError } from '../conf/load.js';
import { Background } from '../kratos/background/background.js';
import { Logger } from '../kratos/log/logger.js';
import { bindService, ServiceBinding } from '../kratos/transport/dispatcher.js';
import { CatalogService } from '../service/catalog.js';
import { InstanceService } from '../service/instance.js';
import { OrderService } from '../service/order.js';
import { ProductService } from '../service/product.js';
import { SeckillOrderService, SeckillService } from '../service/seckill.js';
import { UserService } from '../service/user.js';
import { orderSweeper } from './order-sweeper.js';
import { OutboxRelay } from './outbox-relay.js';
import { saleKeeper } from './sale-keeper.js';
import { SeckillConsumer } from './seckill-consumer.js';

/**
 * What the rules of the configuration cannot say, because the resource domain has no such secret and needs none. To be
 * called before anything is opened.
 * @throws ConfigError
 */
export function checkProductConfig({ server, seckill }: Config): void {
  const secrets = [seckill.tokenSecret, seckill.previousTokenSecret];
  if (server.environment !== 'production' || !secrets.includes(DEVELOPMENT_TOKEN_SECRET)) return;
  throw new ConfigError('configuration', ['seckill.token_secret: the development secret is refused in production']);
}

/** What the product process serves and what it does by itself. */
export const productServerModule = new ContainerModule(({ bind }) => {
  bind(POLICY).toResolvedValue(
    (live: LiveConfig): Policy => {
      const { payTimeoutMs } = live.current.order;
      const { secret, previousSecret } = live.current.payment;
      const { tokenSecret, previousTokenSecret, tokenTtlMs } = live.current.seckill;
      const production = live.current.server.environment === 'production';
      // Read when they are used: these change while the process runs.
      return {
        order: { payTimeoutMs },
        payment: {
          secrets: [secret, previousSecret].filter((s) => s !== ''),
          acceptUnsigned: !production,
        },
        sale: {
          payTimeoutMs,
          get backlogLimit() {
            return live.current.seckill.backlogLimit;
          },
        },
        settlement: {
          get maxDeliveries() {
            return live.current.seckill.maxDeliveries;
          },
        },
        token: {
          secrets: previousTokenSecret === '' ? [tokenSecret] : [tokenSecret, previousTokenSecret],
          ttlMs: Math.ceil(tokenTtlMs),
        },
        waitingRoom: {
          get lineLimit() {
            return live.current.seckill.lineLimit;
          },
        },
      };
    },
    [LiveConfig],
  );

  bind(ServiceBinding).toResolvedValue((s: ProductService) => bindService(ProductServiceService, s), [ProductService]);
  bind(ServiceBinding).toResolvedValue((s: CatalogService) => bindService(CatalogServiceService, s), [CatalogService]);
  bind(ServiceBinding).toResolvedValue((s: OrderService) => bindService(OrderServiceService, s), [OrderService]);
  bind(ServiceBinding).toResolvedValue(
    (s: InstanceService) => bindService(InstanceServiceService, s),
    [InstanceService],
  );
  bind(ServiceBinding).toResolvedValue((s: SeckillService) => bindService(SeckillServiceService, s), [SeckillService]);
  bind(ServiceBinding).toResolvedValue((s: UserService) => bindService(UserServiceService, s), [UserService]);

  bind(Background).toResolvedValue(
    (orders: OrderUsecase, config: Config, logger: Logger) => {
      const { sweepIntervalMs, sweepBatch } = config.order;
      return new Background(
        'order_sweeper',
        orderSweeper(orders, { intervalMs: sweepIntervalMs, batch: sweepBatch }, logger),
        false,
      );
    },
    [OrderUsecase, CONFIG, Logger],
  );

  bind(Background).toResolvedValue(
    (sales: SaleUsecase, logger: Logger) => new Background('sale_keeper', saleKeeper(sales, logger), false),
    [SaleUsecase, Logger],
  );
  bind(Background).toResolvedValue(
    (consumer: PurchaseConsumer, service: SeckillOrderService, config: Config, logger: Logger, registry: Registry) =>
      new Background(
        'seckill_consumer',
        new SeckillConsumer(consumer, service, config.seckill, logger, registry),
        true,
      ),
    [PurchaseConsumer, SeckillOrderService, CONFIG, Logger, Registry],
  );
  bind(Background).toResolvedValue(
    (rows: OutboxRepo, handlers: OutboxHandler[], config: Config, logger: Logger, registry: Registry) => {
      const { batchSize, leaseMs, pollIntervalMs } = config.outbox;
      const outbox = new OutboxUsecase(rows, handlers, { batchSize, leaseMs });
      return new Background('outbox_relay', new OutboxRelay(outbox, { pollIntervalMs }, logger, registry), false);
    },
    [OutboxRepo, { serviceIdentifier: OutboxHandler, isMultiple: true }, CONFIG, Logger, Registry],
  );
});
