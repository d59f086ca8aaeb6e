import { useServers } from '../support/servers.js';
import type { OpenBackend } from './backend.js';
import { catalogRepoContract } from './catalog.js';
import { contentRepoContract } from './content.js';
import { couponRepoContract } from './coupon.js';
import { entitlementRepoContract } from './entitlement.js';
import { instanceRepoContract } from './instance.js';
import { openMemoryBackend } from './memory-backend.js';
import { orderRepoContract } from './order.js';
import { outboxContract } from './outbox.js';
import { paymentRepoContract } from './payment.js';
import { paymentSessionRepoContract } from './payment-session.js';
import { openArchivingBackend, openPostgresBackend } from './postgres-backend.js';
import { priceRuleRepoContract } from './price-rule.js';
import { productRepoContract } from './product.js';
import { refundRepoContract } from './refund.js';
import { saleRepoContract } from './sale.js';
import { saleUnitsRepoContract } from './sale-units.js';
import { savedCartsContract } from './saved-carts.js';
import { shipmentRepoContract } from './shipment.js';
import { stockRepoContract } from './stock.js';
import { transactionRunnerContract } from './transaction.js';
import { userRepoContract } from './user.js';

const contracts: readonly ((name: string, open: OpenBackend) => void)[] = [
  transactionRunnerContract,
  productRepoContract,
  catalogRepoContract,
  contentRepoContract,
  entitlementRepoContract,
  stockRepoContract,
  orderRepoContract,
  savedCartsContract,
  shipmentRepoContract,
  paymentRepoContract,
  paymentSessionRepoContract,
  refundRepoContract,
  priceRuleRepoContract,
  couponRepoContract,
  instanceRepoContract,
  outboxContract,
  saleUnitsRepoContract,
  saleRepoContract,
  userRepoContract,
];

/** Those that read or change orders that may be finished. */
const ofFinishedOrders = [orderRepoContract, shipmentRepoContract, paymentRepoContract, refundRepoContract];

describe('ports of biz in memory', () => {
  for (const contract of contracts) contract('in memory', openMemoryBackend);
});

describe('ports of biz on PostgreSQL', () => {
  const servers = useServers('postgres');
  for (const contract of contracts) contract('on PostgreSQL', () => openPostgresBackend(servers.postgresUrl));
  for (const contract of ofFinishedOrders) {
    contract('on PostgreSQL with finished orders in the archive', () => openArchivingBackend(servers.postgresUrl));
  }
});
