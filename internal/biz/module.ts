import { ContainerModule } from 'inversify';
import { IdGenerator } from './id-generator.js';
import { InstanceRepo, InstanceUsecase } from './instance.js';
import { HeldUnits, OrderUsecase } from './order.js';
import { OrderRepo } from './order-state.js';
import { PaymentRepo } from './payment.js';
import { POLICY, type Policy } from './policy.js';
import { ProductRepo, ProductUsecase } from './product.js';
import { TransactionRunner } from './transaction.js';

/** The usecases. They need the ports, which the data modules bind, and POLICY. */
export const bizModule = new ContainerModule(({ bind }) => {
  bind(ProductUsecase).toResolvedValue((products: ProductRepo) => new ProductUsecase(products), [ProductRepo]);
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
      instances: InstanceUsecase,
      units: HeldUnits,
      policy: Policy,
    ) => new OrderUsecase(transactions, ids, products, orders, payments, instances, units, policy.order),
    [TransactionRunner, IdGenerator, ProductUsecase, OrderRepo, PaymentRepo, InstanceUsecase, HeldUnits, POLICY],
  );
});
