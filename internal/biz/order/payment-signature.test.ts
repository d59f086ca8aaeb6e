import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { isInvalidArgument, isUnauthenticated } from '../../../gen/common/v1/errors.js';
import { ANONYMOUS, type Identity } from '../identity.js';
import { PaymentSignatures } from './payment-signature.js';

const NOW_MS = 1_800_000_000_000;
const BODY = Buffer.from('{"provider":"pay","eventId":"e1"}');
const BUYER: Identity = { role: 'USER', userId: '00000000-0000-8000-8000-000000000001' };

function notice(secret: string, seconds = NOW_MS / 1000, body: Buffer = BODY) {
  const timestamp = String(seconds);
  const signature = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex');
  return { timestamp, signature, body: BODY, eventId: 'e1' };
}

describe('PaymentSignatures', () => {
  const signatures = new PaymentSignatures(
    { secrets: ['new-secret', 'old-secret'], acceptUnsigned: false },
    () => NOW_MS,
  );

  it('accepts a notice that is signed with either secret', () => {
    signatures.verify(ANONYMOUS, notice('new-secret'));
    signatures.verify(ANONYMOUS, notice('old-secret'));
  });

  it('rejects a notice that is unsigned, signed with another secret, altered or malformed', () => {
    const good = notice('new-secret');
    for (const bad of [
      { ...good, signature: undefined },
      { ...good, timestamp: undefined },
      { ...good, timestamp: '1e9' },
      { ...good, signature: '' },
      { ...good, signature: good.signature.slice(2) },
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

  it('requires a signature from buyers, but not from operators and services', () => {
    const unsigned = { timestamp: undefined, signature: undefined, body: BODY, eventId: '' };
    assert.throws(() => signatures.verify(BUYER, unsigned), isUnauthenticated);
    signatures.verify({ role: 'ADMIN', userId: undefined }, unsigned);
    signatures.verify({ role: 'INTERNAL', userId: undefined }, unsigned);
  });

  it('requires an event id in a signed notice, since the signature does not cover the path', () => {
    assert.throws(
      () => signatures.verify(ANONYMOUS, { ...notice('new-secret'), eventId: '' }),
      (err) => isInvalidArgument(err) && err.violations[0]?.field === 'event_id',
    );
  });

  it('accepts unsigned notices only if they are allowed and there is no secret', () => {
    const unsigned = { timestamp: undefined, signature: undefined, body: undefined, eventId: '' };
    new PaymentSignatures({ secrets: [], acceptUnsigned: true }).verify(ANONYMOUS, unsigned);
    for (const policy of [
      { secrets: [], acceptUnsigned: false },
      { secrets: ['s'], acceptUnsigned: true },
    ]) {
      assert.throws(() => new PaymentSignatures(policy).verify(ANONYMOUS, unsigned), isUnauthenticated);
    }
  });
});
