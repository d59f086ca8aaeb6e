import { ContainerModule } from 'inversify';
import { CatalogUsecase } from '../biz/catalog.js';
import { InstanceUsecase } from '../biz/instance.js';
import { InstanceLogUsecase } from '../biz/instance-log.js';
import { OrderUsecase } from '../biz/order.js';
import { PaymentSignatures } from '../biz/payment-signature.js';
import { ProductUsecase } from '../biz/product.js';
import { SaleUsecase } from '../biz/sale.js';
import { SaleWatch } from '../biz/sale-watch.js';
import { SeckillUsecase } from '../biz/seckill.js';
import { SettlementUsecase } from '../biz/settlement.js';
import { UserUsecase } from '../biz/user.js';
import { WaitingRoomUsecase } from '../biz/waiting-room.js';
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
