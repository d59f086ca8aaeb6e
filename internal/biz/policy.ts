import type { OrderPolicy } from './order.js';
import type { PaymentSignaturePolicy } from './payment-signature.js';
import type { PurchaseTokenPolicy } from './purchase-token.js';
import type { SalePolicy } from './sale.js';
import type { SettlementPolicy } from './settlement.js';
import type { WaitingRoomPolicy } from './waiting-room.js';

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
