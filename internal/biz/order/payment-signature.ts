import { createHmac, timingSafeEqual } from 'node:crypto';
import { invalidArgument, unauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../identity.js';

export interface PaymentSignaturePolicy {
  /** Any of them signs, so that one can take another's place without a gap. None: nobody can sign. */
  readonly secrets: readonly string[];
  /** Whether unsigned notices are taken too: on one machine, for trying things out. Never beside a secret. */
  readonly acceptUnsigned: boolean;
}

/** A notice of the payment provider, as it came. */
export interface SignedNotice {
  /** Epoch seconds, decimal. */
  readonly timestamp: string | undefined;
  /** HMAC-SHA256 over `<timestamp>.<body>`, hex. */
  readonly signature: string | undefined;
  /** Byte for byte. */
  readonly body: Uint8Array | undefined;
  readonly eventId: string;
}

const WINDOW_MS = 300_000;

/** Tells a payment provider's notices from anybody else's. */
export class PaymentSignatures {
  constructor(
    private readonly policy: PaymentSignaturePolicy,
    private readonly now: () => number = Date.now,
  ) {}

  /**
   * Operators and services of the system need no signature; everybody else does, buyers before all.
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
    if (!signed) throw unauthenticated('the signature of the payment notice does not hold');
    // The signature does not cover the path: without its own id a notice could be played back to another order.
    if (eventId === '') {
      throw invalidArgument('event_id is required in a signed notice', {
        violations: [{ field: 'event_id', description: 'is required in a signed notice' }],
      });
    }
  }
}
