import type { OrderPolicy } from './order/order.js';
import type { PaymentSignaturePolicy } from './order/payment-signature.js';
import type { PurchaseTokenPolicy } from './seckill/purchase-token.js';
import type { SalePolicy } from './seckill/sale.js';
import type { SettlementPolicy } from './seckill/settlement.js';
import type { WaitingRoomPolicy } from './seckill/waiting-room.js';

/** What the shop settles by configuration; biz does not know configuration files. */
export interface Policy {
  readonly order: OrderPolicy;
  readonly payment: PaymentSignaturePolicy;
  readonly sale: SalePolicy;
  readonly settlement: SettlementPolicy;
  readonly token: PurchaseTokenPolicy;
  readonly waitingRoom: WaitingRoomPolicy;
}

/** What the container knows the policy by. */
export const POLICY = Symbol('Policy');
