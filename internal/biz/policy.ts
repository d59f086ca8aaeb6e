import { type Token, token } from '../kratos/app/token.js';
import type { CartSavePolicy } from './cart/cart-save.js';
import type { CartTimes } from './cart/cart-store.js';
import type { GuestTokenPolicy } from './cart/guest-token.js';
import type { EntitlementPolicy } from './entitlement/entitlement.js';
import type { InstanceJobOptions } from './instance/instance-job.js';
import type { ReconcilePolicy } from './instance/instance-reconcile.js';
import type { InstanceResendPolicy } from './instance/instance-resend.js';
import type { QueueConsumer, QueuePublisher } from './message-queue.js';
import type { OrderPolicy } from './order/order.js';
import type { PaymentProvider } from './order/payment-provider.js';
import type { PaymentSessionPolicy } from './order/payment-session.js';
import type { PaymentSignaturePolicy } from './order/payment-signature.js';
import type { RefundPolicy } from './order/refund.js';
import type { ShipmentPolicy } from './order/shipment.js';
import type { OutboxOptions } from './outbox.js';
import type { RetentionPolicy } from './retention/retention.js';
import type { PurchaseStreamPolicy } from './seckill/purchase-collector.js';
import type { PurchaseTokenPolicy } from './seckill/purchase-token.js';
import type { SalePolicy } from './seckill/sale-state.js';
import type { SettlementPolicy } from './seckill/settlement.js';
import type { WaitingRoomPolicy } from './seckill/waiting-room.js';
import type { TokenRevocationPolicy } from './user/token-revocation.js';

// The settings that the usecases take. The server layer binds them, because biz does not know configuration files.

export const CART_SAVE_POLICY: Token<CartSavePolicy> = token('CartSavePolicy');
export const CART_TIMES: Token<CartTimes> = token('CartTimes');
export const GUEST_TOKEN_POLICY: Token<GuestTokenPolicy> = token('GuestTokenPolicy');
/** Publishes to the queue of contents whose title changed. */
export const CONTENT_PUBLISHER: Token<QueuePublisher> = token('ContentPublisher');
/** Receives from it. */
export const CONTENT_QUEUE: Token<QueueConsumer> = token('ContentQueue');
export const ENTITLEMENT_POLICY: Token<EntitlementPolicy> = token('EntitlementPolicy');
export const INSTANCE_JOB_OPTIONS: Token<InstanceJobOptions> = token('InstanceJobOptions');
export const INSTANCE_RESEND_POLICY: Token<InstanceResendPolicy> = token('InstanceResendPolicy');
export const ORDER_POLICY: Token<OrderPolicy> = token('OrderPolicy');
export const OUTBOX_OPTIONS: Token<OutboxOptions> = token('OutboxOptions');
export const PAYMENT_PROVIDERS: Token<readonly PaymentProvider[]> = token('PaymentProviders');
export const PAYMENT_SESSION_POLICY: Token<PaymentSessionPolicy> = token('PaymentSessionPolicy');
export const PAYMENT_SIGNATURE_POLICY: Token<PaymentSignaturePolicy> = token('PaymentSignaturePolicy');
export const PURCHASE_STREAM_POLICY: Token<PurchaseStreamPolicy> = token('PurchaseStreamPolicy');
export const PURCHASE_TOKEN_POLICY: Token<PurchaseTokenPolicy> = token('PurchaseTokenPolicy');
export const RECONCILE_POLICY: Token<ReconcilePolicy> = token('ReconcilePolicy');
export const REFUND_POLICY: Token<RefundPolicy> = token('RefundPolicy');
/** Publishes to the queue of refunds whose money was received outside Kaimai. */
export const REFUND_PUBLISHER: Token<QueuePublisher> = token('RefundPublisher');
export const RETENTION_POLICY: Token<RetentionPolicy> = token('RetentionPolicy');
export const SALE_POLICY: Token<SalePolicy> = token('SalePolicy');
export const SETTLEMENT_POLICY: Token<SettlementPolicy> = token('SettlementPolicy');
export const SHIPMENT_POLICY: Token<ShipmentPolicy> = token('ShipmentPolicy');
export const TOKEN_REVOCATION_POLICY: Token<TokenRevocationPolicy> = token('TokenRevocationPolicy');
export const WAITING_ROOM_POLICY: Token<WaitingRoomPolicy> = token('WaitingRoomPolicy');
