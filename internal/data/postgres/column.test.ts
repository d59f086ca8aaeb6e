import assert from 'node:assert/strict';
import { byteas, int2s, int4s, int8s, texts, timestamps, uuids } from './column.js';

/** One dimension, no NULLs, the element's type; how many, from index 1 on. */
const header = (oid: number, count: number) =>
  [1, 1, oid, count, 1].map((n) => n.toString(16).padStart(8, '0')).join('');
const hex = (buffer: Buffer) => buffer.toString('hex');
const same = <T>(value: T) => value;

describe('a column of an array parameter', () => {
  it('encodes a column in the binary format of array_recv', () => {
    assert.equal(hex(int8s([1n, -1n], same)), `${header(20, 2)}000000080000000000000001${'00000008ffffffffffffffff'}`);
    assert.equal(hex(int4s([-2], same)), `${header(23, 1)}00000004fffffffe`);
    assert.equal(hex(int2s([5], same)), `${header(21, 1)}000000020005`);
    assert.equal(hex(texts(['é', ''], same)), `${header(25, 2)}00000002c3a900000000`);
    assert.equal(hex(byteas([Uint8Array.of(0, 255)], same)), `${header(17, 1)}0000000200ff`);
    assert.equal(
      hex(uuids(['00000000-0000-8000-8000-00000000Ab7f'], same)),
      `${header(2950, 1)}000000100000000000008000800000000000ab7f`,
    );
    const times = [new Date('2000-01-01T00:00:00.001Z'), new Date('1999-12-31T23:59:59.999Z')];
    assert.equal(
      hex(timestamps(times, same)),
      `${header(1184, 2)}0000000800000000000003e8${'00000008fffffffffffffc18'}`,
    );
  });

  it('encodes a missing value as NULL', () => {
    const nothing = [undefined, null];
    for (const column of [int8s<undefined | null>, int4s, int2s, uuids, texts, byteas]) {
      assert.equal(hex(column(nothing, () => undefined)).slice(40), 'ffffffffffffffff');
    }
  });

  it('encodes no rows as an array without dimensions', () => {
    assert.equal(hex(int8s([], same)), '000000000000000100000014');
    assert.equal(hex(texts([], same)), '000000000000000100000019');
  });

  it('reads the values from the rows', () => {
    assert.equal(hex(int4s([{ n: 7 }], (row) => row.n)), hex(int4s([7], same)));
  });

  it('rejects a malformed UUID', () => {
    for (const text of ['', '1', 'g0000000-0000-8000-8000-000000000000', '00000000-0000-8000-8000-00000000000ı']) {
      assert.throws(() => uuids([text], same), /is not a UUID/);
    }
  });
});
