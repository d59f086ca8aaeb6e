import { ContainerModule } from 'inversify';
import { InstanceUsecase } from '../biz/instance.js';
import { OrderUsecase } from '../biz/order.js';
import { ProductUsecase } from '../biz/product.js';
import { InstanceService } from './instance.js';
import { OrderService } from './order.js';
import { ProductService } from './product.js';

/** The product process's services. The server layer binds them to their definitions. */
export const productServiceModule = new ContainerModule(({ bind }) => {
  bind(ProductService).toResolvedValue((u: ProductUsecase) => new ProductService(u), [ProductUsecase]);
  bind(OrderService).toResolvedValue((u: OrderUsecase) => new OrderService(u), [OrderUsecase]);
  bind(InstanceService).toResolvedValue((u: InstanceUsecase) => new InstanceService(u), [InstanceUsecase]);
});
