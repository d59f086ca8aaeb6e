import { ContainerModule } from 'inversify';
import { InstanceServiceService } from '../../gen/instance/v1/instance.js';
import { OrderServiceService } from '../../gen/order/v1/order.js';
import { ProductServiceService } from '../../gen/product/v1/product.js';
import { Logger } from '../biz/logger.js';
import { OrderUsecase } from '../biz/order.js';
import { POLICY, type Policy } from '../biz/policy.js';
import { CONFIG, type Config } from '../conf/config.js';
import { InstanceService } from '../service/instance.js';
import { OrderService } from '../service/order.js';
import { ProductService } from '../service/product.js';
import { Background } from './background.js';
import { bindService, ServiceBinding } from './dispatcher.js';
import { orderSweeper } from './order-sweeper.js';

/** What the product process serves and what it does by itself. */
export const productServerModule = new ContainerModule(({ bind }) => {
  bind(POLICY).toResolvedValue(
    (config: Config): Policy => ({ order: { payTimeoutMs: config.order.payTimeoutMs } }),
    [CONFIG],
  );

  bind(ServiceBinding).toResolvedValue((s: ProductService) => bindService(ProductServiceService, s), [ProductService]);
  bind(ServiceBinding).toResolvedValue((s: OrderService) => bindService(OrderServiceService, s), [OrderService]);
  bind(ServiceBinding).toResolvedValue(
    (s: InstanceService) => bindService(InstanceServiceService, s),
    [InstanceService],
  );

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
});
