import { createHmac, timingSafeEqual } from 'node:crypto';
import { invalidArgument, unauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../identity.js';

export interface PaymentSignaturePolicy {
  /** A signature with any of them is valid, so that secrets can be rotated. Empty: no signature is valid. */
  readonly secrets: readonly string[];
  /** Whether unsigned notices are accepted, for local development. Ignored if there is a secret. */
  readonly acceptUnsigned: boolean;
}

/** A payment notice as it was received. */
export interface SignedNotice {
  /** Epoch seconds, decimal. */
  readonly timestamp: string | undefined;
  /** HMAC-SHA256 over `<timestamp>.<body>`, hex. */
  readonly signature: string | undefined;
  /** The exact bytes of the body. */
  readonly body: Uint8Array | undefined;
  readonly eventId: string;
}

const WINDOW_MS = 300_000;

/** Verifies that a notice comes from the payment provider. */
export class PaymentSignatures {
  constructor(
    private readonly policy: PaymentSignaturePolicy,
    private readonly now: () => number = Date.now,
  ) {}

  /**
   * Operators and internal services need no signature. All other callers do, above all buyers.
   * @throws UNAUTHENTICATED, INVALID_ARGUMENT event_id
   */
  verify(identity: Identity, notice: SignedNotice): void {
    if (identity.role === 'ADMIN' || identity.role === 'INTERNAL') return;
    const { secrets, acceptUnsigned } = this.policy;
    if (secrets.length === 0 && acceptUnsigned) return;
    const { timestamp, signature, body, eventId } = notice;
    if (timestamp === undefined || signature === undefined || !/^[0-9]{1,12}$/.test(timestamp)) {
      throw unauthenticated('a payment notice carries x-payment-timestamp and x-payment-signature');
    }
    if (Math.abs(this.now() - Number(timestamp) * 1000) > WINDOW_MS) {
      throw unauthenticated('the payment notice is not of these minutes');
    }
    const given = Buffer.from(signature, 'hex');
    const signed = secrets.some((secret) => {
      const expected = createHmac('sha256', secret)
        .update(`${timestamp}.`)
        .update(body ?? '')
        .digest();
      return given.length === expected.length && timingSafeEqual(given, expected);
    });
    if (!signed) throw unauthenticated('the payment notice has an invalid signature');
    // The signature does not cover the path, so without an event id a notice could be replayed for another order.
    if (eventId === '') {
      throw invalidArgument('event_id is required in a signed notice', {
        violations: [{ field: 'event_id', description: 'is required in a signed notice' }],
      });
    }
  }
}
