import { ContainerModule } from 'inversify';
import { CatalogRepo, CatalogUsecase } from './catalog/catalog.js';
import { ItemDirectory } from './catalog/item.js';
import { ProductRepo, ProductUsecase } from './catalog/product.js';
import { StockRepo } from './catalog/stock.js';
import { IdGenerator } from './id-generator.js';
import { InstanceRepo, InstanceUsecase } from './instance/instance.js';
import { OrderFulfilment } from './order/fulfilment.js';
import { OrderUsecase } from './order/order.js';
import { OrderRepo } from './order/order-state.js';
import { PaymentRepo } from './order/payment.js';
import { PaymentSignatures } from './order/payment-signature.js';
import { ReservedUnits } from './order/reserved-units.js';
import { Outbox, OutboxHandler } from './outbox.js';
import { POLICY, type Policy } from './policy.js';
import { Admission } from './seckill/admission.js';
import { PurchaseStream } from './seckill/purchase-stream.js';
import { PurchaseTokens } from './seckill/purchase-token.js';
import { SaleReservedUnits, SaleUnitsRepo } from './seckill/reserved-units.js';
import { SaleUsecase } from './seckill/sale.js';
import { SaleDirectory } from './seckill/sale-directory.js';
import { SaleRepo } from './seckill/sale-state.js';
import { SaleStock } from './seckill/sale-stock.js';
import { SaleWatch } from './seckill/sale-watch.js';
import { SeckillUsecase } from './seckill/seckill.js';
import { SeckillReturnHandler } from './seckill/seckill-return.js';
import { SettlementRepo, SettlementUsecase } from './seckill/settlement.js';
import { WaitingRoom, WaitingRoomUsecase } from './seckill/waiting-room.js';
import { TransactionRunner } from './transaction.js';
import { LoginAttempts, PasswordHasher, TokenSigner, UserRepo, UserUsecase } from './user/user.js';

/** The usecases. They need the ports, which the data modules bind, and POLICY. */
export const bizModule = new ContainerModule(({ bind }) => {
  bind(PaymentSignatures).toResolvedValue((policy: Policy) => new PaymentSignatures(policy.payment), [POLICY]);
  bind(ProductUsecase).toResolvedValue((products: ProductRepo) => new ProductUsecase(products), [ProductRepo]);
  bind(UserUsecase).toResolvedValue(
    (users: UserRepo, passwords: PasswordHasher, tokens: TokenSigner, attempts: LoginAttempts) =>
      new UserUsecase(users, passwords, tokens, attempts),
    [UserRepo, PasswordHasher, TokenSigner, LoginAttempts],
  );
  bind(ItemDirectory).toResolvedValue(
    (products: ProductRepo, catalog: CatalogRepo) => new ItemDirectory(products, catalog),
    [ProductRepo, CatalogRepo],
  );
  bind(CatalogUsecase).toResolvedValue(
    (transactions: TransactionRunner, catalog: CatalogRepo, stock: StockRepo) =>
      new CatalogUsecase(transactions, catalog, stock),
    [TransactionRunner, CatalogRepo, StockRepo],
  );
  bind(InstanceUsecase).toResolvedValue(
    (
      transactions: TransactionRunner,
      ids: IdGenerator,
      products: ProductRepo,
      instances: InstanceRepo,
      orders: OrderRepo,
      payments: PaymentRepo,
    ) => new InstanceUsecase(transactions, ids, products, instances, orders, payments),
    [TransactionRunner, IdGenerator, ProductRepo, InstanceRepo, OrderRepo, PaymentRepo],
  );
  bind(OrderUsecase).toResolvedValue(
    (
      transactions: TransactionRunner,
      ids: IdGenerator,
      products: ProductUsecase,
      orders: OrderRepo,
      payments: PaymentRepo,
      fulfilments: OrderFulfilment[],
      units: ReservedUnits,
      policy: Policy,
    ) => new OrderUsecase(transactions, ids, products, orders, payments, fulfilments, units, policy.order),
    [
      TransactionRunner,
      IdGenerator,
      ProductUsecase,
      OrderRepo,
      PaymentRepo,
      { serviceIdentifier: OrderFulfilment, isMultiple: true },
      ReservedUnits,
      POLICY,
    ],
  );
  bind(OrderFulfilment).toService(InstanceUsecase);
  bind(ReservedUnits).toResolvedValue(
    (sales: SaleUnitsRepo, stock: StockRepo, outbox: Outbox) => new SaleReservedUnits(sales, stock, outbox),
    [SaleUnitsRepo, StockRepo, Outbox],
  );
  bind(SaleStock).toResolvedValue(
    (
      transactions: TransactionRunner,
      sales: SaleRepo,
      stock: StockRepo,
      admission: Admission,
      stream: PurchaseStream,
    ) => new SaleStock(transactions, sales, stock, admission, stream),
    [TransactionRunner, SaleRepo, StockRepo, Admission, PurchaseStream],
  );
  bind(SaleUsecase).toResolvedValue(
    (
      transactions: TransactionRunner,
      ids: IdGenerator,
      items: ItemDirectory,
      sales: SaleRepo,
      stock: SaleStock,
      admission: Admission,
      stream: PurchaseStream,
      policy: Policy,
    ) => new SaleUsecase(transactions, ids, items, sales, stock, admission, stream, policy.sale),
    [TransactionRunner, IdGenerator, ItemDirectory, SaleRepo, SaleStock, Admission, PurchaseStream, POLICY],
  );
  bind(SaleDirectory).toResolvedValue((sales: SaleRepo) => new SaleDirectory(sales), [SaleRepo]);
  bind(SeckillUsecase).toResolvedValue(
    (
      sales: SaleDirectory,
      admission: Admission,
      stream: PurchaseStream,
      settlements: SettlementRepo,
      tokens: PurchaseTokens,
    ) => new SeckillUsecase(sales, admission, stream, settlements, tokens),
    [SaleDirectory, Admission, PurchaseStream, SettlementRepo, PurchaseTokens],
  );
  bind(PurchaseTokens).toResolvedValue((policy: Policy) => new PurchaseTokens(policy.token), [POLICY]);
  bind(WaitingRoomUsecase).toResolvedValue(
    (sales: SaleDirectory, room: WaitingRoom, tokens: PurchaseTokens, policy: Policy) =>
      new WaitingRoomUsecase(sales, room, tokens, policy.waitingRoom),
    [SaleDirectory, WaitingRoom, PurchaseTokens, POLICY],
  );
  bind(SaleWatch).toResolvedValue((sales: SaleUsecase) => new SaleWatch(sales), [SaleUsecase]);
  bind(SettlementUsecase).toResolvedValue(
    (
      transactions: TransactionRunner,
      ids: IdGenerator,
      items: ItemDirectory,
      orders: OrderRepo,
      instances: InstanceUsecase,
      settlements: SettlementRepo,
      stock: StockRepo,
      policy: Policy,
    ) => new SettlementUsecase(transactions, ids, items, orders, instances, settlements, stock, policy.settlement),
    [TransactionRunner, IdGenerator, ItemDirectory, OrderRepo, InstanceUsecase, SettlementRepo, StockRepo, POLICY],
  );
  bind(OutboxHandler).toResolvedValue(
    (admission: Admission, sales: SaleRepo): OutboxHandler => new SeckillReturnHandler(admission, sales),
    [Admission, SaleRepo],
  );
});
