import assert from 'node:assert/strict';
import type { DescMethod } from '@bufbuild/protobuf';
import { isTooManyRequests } from '../../../gen/common/v1/errors.js';
import type { CallerRole } from '../../biz/identity.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import { TokenBuckets } from '../../kratos/middleware/token-buckets.js';
import type { Call } from '../../kratos/transport/call.js';
import { ClientAddresses } from '../../kratos/transport/client-address.js';
import { buyerLimit, ORDERS, PURCHASES } from './buyer-limit.js';

describe('buyerLimit', () => {
  const OFF = { perSecond: 0, burst: 1 };
  const ONCE = { perSecond: 0.5, burst: 1 };
  const methods: DescMethod[] = [];
  let users: TokenBuckets;
  let addresses: TokenBuckets;

  before(() => {
    for (const type of loadDescriptors().registry) if (type.kind === 'service') methods.push(...type.methods);
  });
  beforeEach(() => {
    [users, addresses] = [ONCE, OFF].map((rate) => new TokenBuckets(rate, 10, () => 0)) as [TokenBuckets, TokenBuckets];
  });

  const observed = (operations = PURCHASES) => {
    const limit = buyerLimit(operations, users, addresses, new ClientAddresses([]));
    return methods
      .map((m) => ({ name: `${m.parent.typeName}/${m.name}`, observe: limit.of(m) }))
      .filter((m) => m.observe);
  };
  const call = (userId: string | undefined, role: CallerRole = 'USER', peer = '192.0.2.1:5') =>
    observed()[0]!.observe!({ identity: { role, userId }, peer } as unknown as Call);

  it('applies to the RPCs of its set only', () => {
    assert.deepEqual(
      observed().map((m) => m.name),
      ['seckill.v1.SeckillService/Purchase', 'seckill.v1.SeckillService/IssuePurchaseToken'],
    );
    assert.deepEqual(
      observed(ORDERS).map((m) => m.name),
      ['order.v1.OrderService/CreateOrder', 'cart.v1.CartService/CheckoutCart'],
    );
  });

  it('counts both calls of a user together, and returns when to retry', () => {
    call('a');
    for (const { observe } of observed()) {
      assert.throws(
        () => observe!({ identity: { role: 'USER', userId: 'a' }, peer: '192.0.2.1:5' } as unknown as Call),
        (err) => {
          assert.ok(isTooManyRequests(err));
          assert.deepEqual([err.retryAfterMs, err.metadata], [2_000, { limited: 'user', retry_after_ms: '2000' }]);
          return true;
        },
      );
    }
    call('b');
  });

  it('counts all callers of an address, if that is configured', () => {
    addresses.rate = { perSecond: 0.5, burst: 2 };
    call('a');
    call('b');
    assert.throws(
      () => call('c'),
      (err) => isTooManyRequests(err) && err.metadata.limited === 'address',
    );
    call('d', 'USER', '192.0.2.2:5');
  });

  it('does not limit services of the system', () => {
    addresses.rate = ONCE;
    for (let i = 0; i < 5; i++) call('a', 'INTERNAL');
    call('a');
  });
});
