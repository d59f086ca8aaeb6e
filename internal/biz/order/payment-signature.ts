import { createHmac, timingSafeEqual } from 'node:crypto';
import { invalidArgument, unauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../identity.js';

export interface PaymentSignaturePolicy {
  /** A signature with any of them is valid, so that secrets can be rotated. Empty: no signature is valid. */
  readonly secrets: readonly string[];
  /** Whether unsigned notices are accepted, for local development. Ignored if there is a secret. */
  readonly acceptUnsigned: boolean;
  /** Whether a notice must say how much was paid. */
  readonly requireAmount: boolean;
}

/** What the signature of a payment notice covers. */
export interface SignedContent {
  /** Epoch seconds, decimal. */
  readonly timestamp: string;
  readonly orderId: bigint;
  /** The exact bytes of the body. */
  readonly body: Uint8Array | string;
}

/** A payment notice as it was received. */
export interface SignedNotice {
  /** Epoch seconds, decimal. */
  readonly timestamp: string | undefined;
  /** From `signPayment`. */
  readonly signature: string | undefined;
  readonly orderId: bigint;
  /** The exact bytes of the body; undefined for a notice that is no JSON request, which cannot be signed. */
  readonly body: Uint8Array | undefined;
  /** undefined: the amount due. */
  readonly amountFen: bigint | undefined;
}

const WINDOW_MS = 300_000;

/** The value of `x-payment-signature`: HMAC-SHA256 of `<timestamp>.<order id>.<body>`, hex. */
export function signPayment(secret: string, content: SignedContent): string {
  return digestOf(secret, content).toString('hex');
}

/** Verifies that a notice comes from the payment provider. */
export class PaymentSignatures {
  constructor(
    private readonly policy: PaymentSignaturePolicy,
    private readonly now: () => number = Date.now,
  ) {}

  /**
   * Operators and internal services need no signature. All other callers do, above all buyers.
   * @throws UNAUTHENTICATED, INVALID_ARGUMENT paid_amount_fen
   */
  verify(identity: Identity, notice: SignedNotice): void {
    this.verifySignature(identity, notice);
    if (this.policy.requireAmount && notice.amountFen === undefined) {
      throw invalidArgument('paid_amount_fen is required', {
        violations: [{ field: 'paid_amount_fen', description: 'is required in production' }],
      });
    }
  }

  private verifySignature(identity: Identity, { timestamp, signature, orderId, body }: SignedNotice): void {
    if (identity.role === 'ADMIN' || identity.role === 'INTERNAL') return;
    const { secrets, acceptUnsigned } = this.policy;
    if (secrets.length === 0 && acceptUnsigned) return;
    // Over gRPC there is no body to sign: a signature would cover neither the amount nor the event.
    if (body === undefined) throw unauthenticated('a payment notice is signed JSON, or comes from a service');
    if (timestamp === undefined || signature === undefined || !/^[0-9]{1,12}$/.test(timestamp)) {
      throw unauthenticated('a payment notice carries x-payment-timestamp and x-payment-signature');
    }
    if (Math.abs(this.now() - Number(timestamp) * 1000) > WINDOW_MS) {
      throw unauthenticated('the timestamp of the payment notice is more than 300 s off');
    }
    const given = Buffer.from(signature, 'hex');
    const signed = secrets.some((secret) => {
      const expected = digestOf(secret, { timestamp, orderId, body });
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
    if (!signed) throw unauthenticated('the payment notice has an invalid signature');
  }
}

function digestOf(secret: string, { timestamp, orderId, body }: SignedContent): Buffer {
  return createHmac('sha256', secret).update(`${timestamp}.${orderId}.`).update(body).digest();
}
