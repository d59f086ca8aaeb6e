import { ContainerModule } from 'inversify';
import { CatalogUsecase } from '../biz/catalog/catalog.js';
import { ProductUsecase } from '../biz/catalog/product.js';
import { InstanceUsecase } from '../biz/instance/instance.js';
import { InstanceLogUsecase } from '../biz/instance/instance-log.js';
import { OrderUsecase } from '../biz/order/order.js';
import { PaymentSignatures } from '../biz/order/payment-signature.js';
import { SaleUsecase } from '../biz/seckill/sale.js';
import { SaleWatch } from '../biz/seckill/sale-watch.js';
import { SeckillUsecase } from '../biz/seckill/seckill.js';
import { SettlementUsecase } from '../biz/seckill/settlement.js';
import { WaitingRoomUsecase } from '../biz/seckill/waiting-room.js';
import { UserUsecase } from '../biz/user/user.js';
import { CatalogService } from './catalog.js';
import { InstanceService } from './instance.js';
import { InstanceEventService } from './instance-event.js';
import { InstanceLogService } from './instance-log.js';
import { OrderService } from './order.js';
import { ProductService } from './product.js';
import { SeckillOrderService, SeckillService } from './seckill.js';
import { UserService } from './user.js';

/** The product process's services. The server layer binds them to their definitions. */
export const productServiceModule = new ContainerModule(({ bind }) => {
  bind(ProductService).toResolvedValue((u: ProductUsecase) => new ProductService(u), [ProductUsecase]);
  bind(CatalogService).toResolvedValue((u: CatalogUsecase) => new CatalogService(u), [CatalogUsecase]);
  bind(OrderService).toResolvedValue(
    (u: OrderUsecase, signatures: PaymentSignatures) => new OrderService(u, signatures),
    [OrderUsecase, PaymentSignatures],
  );
  bind(UserService).toResolvedValue((u: UserUsecase) => new UserService(u), [UserUsecase]);
  bind(InstanceService).toResolvedValue((u: InstanceUsecase) => new InstanceService(u), [InstanceUsecase]);
  bind(SeckillService).toResolvedValue(
    (sales: SaleUsecase, watch: SaleWatch, seckill: SeckillUsecase, room: WaitingRoomUsecase) =>
      new SeckillService(sales, watch, seckill, room),
    [SaleUsecase, SaleWatch, SeckillUsecase, WaitingRoomUsecase],
  );
  bind(SeckillOrderService).toResolvedValue((u: SettlementUsecase) => new SeckillOrderService(u), [SettlementUsecase]);
});

/** The resource process's services. */
export const resourceServiceModule = new ContainerModule(({ bind }) => {
  bind(InstanceLogService).toResolvedValue((u: InstanceLogUsecase) => new InstanceLogService(u), [InstanceLogUsecase]);
  bind(InstanceEventService).toResolvedValue(
    (u: InstanceLogUsecase) => new InstanceEventService(u),
    [InstanceLogUsecase],
  );
});
