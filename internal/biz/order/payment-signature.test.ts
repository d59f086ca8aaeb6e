import assert from 'node:assert/strict';
import { isInvalidArgument, isUnauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, type Identity } from '../identity.js';
import { PaymentSignatures, signPayment } from './payment-signature.js';

const NOW_MS = 1_800_000_000_000;
const BODY = Buffer.from('{"provider":"pay","eventId":"e1"}');
const BUYER: Identity = { role: 'USER', userId: '00000000-0000-8000-8000-000000000001' };

function notice(secret: string, seconds = NOW_MS / 1000, body: Buffer = BODY) {
  const timestamp = String(seconds);
  const signature = signPayment(secret, { timestamp, orderId: 42n, body });
  return { timestamp, signature, orderId: 42n, body: BODY, amountFen: undefined };
}

describe('PaymentSignatures', () => {
  const signatures = new PaymentSignatures(
    { secrets: ['new-secret', 'old-secret'], acceptUnsigned: false, requireAmount: false },
    () => NOW_MS,
  );

  it('accepts a notice that is signed with either secret', () => {
    signatures.verify(ANONYMOUS, notice('new-secret'));
    signatures.verify(ANONYMOUS, notice('old-secret'));
  });

  it('rejects a notice that is unsigned, signed with another secret, for another order, altered or malformed', () => {
    const good = notice('new-secret');
    for (const bad of [
      { ...good, signature: undefined },
      { ...good, timestamp: undefined },
      { ...good, timestamp: '1e9' },
      { ...good, signature: '' },
      { ...good, signature: good.signature.slice(2) },
      { ...good, orderId: 43n },
      { ...good, body: undefined },
      notice('guess'),
      notice('new-secret', NOW_MS / 1000, Buffer.from('{}')),
    ]) {
      assert.throws(() => signatures.verify(ANONYMOUS, bad), isUnauthenticated);
    }
  });

  it('rejects a notice that is more than five minutes old or early', () => {
    for (const seconds of [NOW_MS / 1000 - 301, NOW_MS / 1000 + 301]) {
      assert.throws(() => signatures.verify(ANONYMOUS, notice('new-secret', seconds)), isUnauthenticated);
    }
  });

  const unsigned = { timestamp: undefined, signature: undefined, orderId: 42n, body: BODY, amountFen: undefined };

  it('requires a signature from buyers, but not from operators and services', () => {
    assert.throws(() => signatures.verify(BUYER, unsigned), isUnauthenticated);
    signatures.verify({ role: 'ADMIN', userId: undefined }, unsigned);
    signatures.verify({ role: 'INTERNAL', userId: undefined }, unsigned);
  });

  it('accepts unsigned notices only if they are allowed and there is no secret', () => {
    const local = { secrets: [], acceptUnsigned: true, requireAmount: false };
    new PaymentSignatures(local).verify(ANONYMOUS, unsigned);
    for (const policy of [
      { ...local, acceptUnsigned: false },
      { ...local, secrets: ['s'] },
    ]) {
      assert.throws(() => new PaymentSignatures(policy).verify(ANONYMOUS, unsigned), isUnauthenticated);
    }
  });

  it('requires an amount in production, from every sender', () => {
    const policy = { secrets: ['new-secret'], acceptUnsigned: false, requireAmount: true };
    const production = new PaymentSignatures(policy, () => NOW_MS);
    const withoutAmount = (err: unknown) => isInvalidArgument(err) && err.violations[0]?.field === 'paid_amount_fen';
    assert.throws(() => production.verify(ANONYMOUS, notice('new-secret')), withoutAmount);
    assert.throws(() => production.verify({ role: 'ADMIN', userId: undefined }, unsigned), withoutAmount);
    production.verify(ANONYMOUS, { ...notice('new-secret'), amountFen: 1n });
  });
});
