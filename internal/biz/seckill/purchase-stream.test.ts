import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatUserId } from '../identity.js';
import { belongsTo, derivedReqId, type Purchase, parseEntry, reusedStreamId } from './purchase-stream.js';
import type { Sale } from './sale-state.js';

const entry = (fields: Record<string, string>, streamId = '1700000000000-0') => ({
  streamId,
  fields: new Map(Object.entries(fields)),
});
const purchase = (fields: Record<string, string>, streamId?: string): Purchase => {
  const parsed = parseEntry(entry(fields, streamId));
  assert.ok(parsed.kind === 'purchase');
  return parsed;
};

describe('parseEntry', () => {
  it('reads an entry of admission', () => {
    const uid = formatUserId('7');
    const parsed = purchase({ uid, req_id: '4294967297', ts: '1', qty: '1', epoch: '1' });
    assert.deepEqual(parsed, {
      kind: 'purchase',
      streamId: '1700000000000-0',
      userId: uid,
      quantity: 1,
      epoch: 1n,
      reqId: 4294967297n,
    });
  });

  it('reads an entry that only has a uid and a time, as document 001 adds it', () => {
    const parsed = purchase({ uid: '123', ts: '1234567890' });
    assert.equal(parsed.userId, '00000000-0000-8000-8000-00000000007b');
    assert.deepEqual([parsed.quantity, parsed.epoch, parsed.reqId], [1, undefined, undefined]);
  });

  const malformed: readonly [Record<string, string>, RegExp][] = [
    [{}, /uid is missing/],
    [{ uid: '' }, /UUID or a decimal/],
    [{ uid: '-1' }, /UUID or a decimal/],
    [{ uid: 'constructor' }, /UUID or a decimal/],
    [{ uid: '9223372036854775808' }, /UUID or a decimal/],
    [{ uid: '1', qty: '0' }, /qty/],
    [{ uid: '1', qty: '-1' }, /qty/],
    [{ uid: '1', qty: '1e3' }, /qty/],
    [{ uid: '1', qty: '99999999999' }, /qty/],
    [{ uid: '1', epoch: '0' }, /epoch/],
    [{ uid: '1', epoch: '2147483648' }, /epoch/],
    [{ uid: '1', req_id: 'x' }, /req_id/],
    [{ uid: '1', req_id: '9223372036854775808' }, /req_id/],
  ];
  for (const [fields, reason] of malformed) {
    it(`takes ${JSON.stringify(fields)} for malformed`, () => {
      const parsed = parseEntry(entry(fields));
      assert.ok(parsed.kind === 'malformed');
      assert.match(parsed.reason, reason);
    });
  }

  it('never throws, whatever the fields contain', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom('uid', 'qty', 'epoch', 'req_id', 'ts'), fc.string()), (fields) => {
        assert.ok(['purchase', 'malformed'].includes(parseEntry(entry(fields)).kind));
      }),
    );
  });
});

describe('belongsTo', () => {
  const sale = {
    status: 'OPEN',
    startsAt: new Date(1_000),
    endsAt: new Date(2_000),
    firstEpoch: 3n,
    epoch: 5n,
  } as Sale;

  it('decides by the epoch of an entry of admission', () => {
    for (const [epoch, expected] of [
      ['2', false],
      ['3', true],
      ['5', true],
      ['6', false],
    ] as const) {
      assert.equal(belongsTo(purchase({ uid: '1', epoch }, '1500-0'), sale), expected, epoch);
    }
  });

  it('decides by the time of an entry that another client added', () => {
    for (const [id, expected] of [
      ['999-9', false],
      ['1000-0', true],
      ['1999-0', true],
      ['2000-0', false],
    ] as const) {
      assert.equal(belongsTo(purchase({ uid: '1' }, id), sale), expected, id);
    }
    assert.equal(belongsTo(purchase({ uid: '1' }, '1500-0'), { ...sale, status: 'CLOSED' }), false);
  });
});

describe('derivedReqId', () => {
  const id = fc
    .tuple(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 64n - 1n))
    .map(([ms, sequence]) => `${ms}-${sequence}`);
  const clockId = fc.tuple(fc.bigInt(0n, 2n ** 42n - 1n), fc.bigInt(0n, 2n ** 20n - 1n)).map((t) => t.join('-'));

  it('is a negative int64, so that it never equals a number of the counter', () => {
    fc.assert(
      fc.property(fc.oneof(id, clockId), (streamId) => {
        const n = derivedReqId(streamId);
        assert.ok(n < 0n && n >= -(2n ** 63n));
      }),
    );
  });

  it('differs for different ids', () => {
    fc.assert(
      fc.property(clockId, clockId, (a, b) => {
        assert.equal(derivedReqId(a) === derivedReqId(b), a === b);
      }),
    );
    assert.notEqual(derivedReqId(`${2n ** 42n}-0`), derivedReqId('0-0'));
  });

  it('is another one for the second user of a stream id', () => {
    fc.assert(
      fc.property(id, (streamId) => {
        const reused = derivedReqId(reusedStreamId(streamId, formatUserId('2')));
        assert.ok(reused < 0n && reused >= -(2n ** 63n));
        assert.notEqual(reused, derivedReqId(streamId));
      }),
    );
  });
});

describe('reusedStreamId', () => {
  it('keeps the time, fits its column, and is no id of Redis', () => {
    const greatest = `${2n ** 64n - 1n}-${2n ** 64n - 1n}`;
    for (const streamId of ['1700000000000-0', greatest]) {
      const reused = reusedStreamId(streamId, formatUserId('2'));
      assert.ok(reused.startsWith(`${streamId.split('-')[0]}-r`), reused);
      assert.ok(reused.length <= 41, reused);
      assert.doesNotMatch(reused, /^[0-9]+-[0-9]+$/);
    }
  });

  it('is the same for a redelivery, and another one for another user', () => {
    const [first, again, other] = ['2', '2', '3'].map((user) => reusedStreamId('1-0', formatUserId(user)));
    assert.equal(first, again);
    assert.notEqual(first, other);
  });
});
