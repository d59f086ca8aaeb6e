import assert from 'node:assert/strict';
import { saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import type { OutboxRow } from '../outbox.js';
import type { Admission, UnitsReturn } from './admission.js';
import type { SaleRepo } from './sale-state.js';
import { encodeUnitsReturn, SeckillReturnHandler, TOPIC_SECKILL_RETURN } from './seckill-return.js';

describe('SeckillReturnHandler', () => {
  const unitsOf = (returnId: bigint): UnitsReturn => ({
    returnId,
    itemId: returnId,
    userId: 'u',
    quantity: 1,
    epoch: 5n,
  });
  const rowOf = (id: bigint, payload = encodeUnitsReturn(unitsOf(id))): OutboxRow => ({
    ...{ id, topic: TOPIC_SECKILL_RETURN, refId: id, payload: Buffer.from(payload), headers: undefined, attempts: 1 },
  });
  const dispatch = (
    returnUnits: (units: UnitsReturn) => Promise<boolean>,
    rows: readonly OutboxRow[],
    current?: { status: string; epoch: bigint },
  ) => {
    const admission = { returnUnits } as Partial<Admission> as Admission;
    const sales = { findCurrent: async () => current } as unknown as SaleRepo;
    return new SeckillReturnHandler(admission, sales).dispatch(rows);
  };

  it('returns the units of all other rows when one row is unreadable and one sale is damaged', async () => {
    const returned: bigint[] = [];
    const failures = await dispatch(
      async ({ returnId }) => {
        if (returnId === 2n) throw new Error('WRONGTYPE');
        returned.push(returnId);
        return true;
      },
      [rowOf(1n), rowOf(2n), rowOf(3n, 'not JSON'), rowOf(4n)],
    );
    assert.deepEqual(returned, [1n, 4n]);
    assert.deepEqual(
      failures.map((f) => f?.scope),
      [undefined, 'row', 'row', undefined],
    );
    assert.equal(failures[1]?.reason, 'WRONGTYPE');
  });

  it('reports the destination as unavailable when admission is', async () => {
    const failures = await dispatch(async () => {
      throw saleUnavailable('admission does not answer');
    }, [rowOf(1n)]);
    assert.deepEqual(failures, [{ reason: 'admission does not answer', scope: 'destination' }]);
  });

  it('waits for a sale that is not loaded yet, and drops the units of one that is closed or reopened', async () => {
    const notLoaded = async () => false;
    const [waiting] = await dispatch(notLoaded, [rowOf(1n)], { status: 'OPEN', epoch: 5n });
    assert.equal(waiting?.scope, 'row');
    for (const current of [undefined, { status: 'CLOSED', epoch: 5n }, { status: 'OPEN', epoch: 6n }]) {
      assert.deepEqual(await dispatch(notLoaded, [rowOf(1n)], current), [undefined]);
    }
  });
});
