import assert from 'node:assert/strict';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, insertProduct, type OpenBackend, times, useBackend } from './backend.js';

export function saleUnitsRepoContract(name: string, open: OpenBackend): void {
  describe(`SaleUnitsRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    /** An open sale of 100 units in its first epoch, of which `sold` are sold. */
    const newSale = async (sold: number) => {
      const [id, { id: itemId }] = [freshId(), await insertProduct(backend.it.products)];
      await backend.it.insertSale({ id, itemId, total: 100n });
      await run(async (tx) => {
        for (let i = 0; i < sold; i++) await backend.it.sell(tx, id);
      });
      return { id, itemId };
    };
    const returnUnits = (...units: readonly (readonly [saleId: bigint, quantity: number])[]) =>
      run((tx) =>
        backend.it.saleUnits.returnUnits(
          tx,
          units.map(([saleId, quantity]) => ({ saleId, quantity })),
        ),
      );

    it('subtracts the units from what each sale has sold and returns each sale once', async () => {
      const [a, b] = [await newSale(4), await newSale(1)];
      const sales = await returnUnits([b.id, 1], [a.id, 2], [a.id, 1]);
      assert.deepEqual([await backend.it.sold(a.id), await backend.it.sold(b.id)], [1n, 0n]);
      assert.deepEqual(
        [...sales].sort((x, y) => Number(x.id - y.id)),
        [a, b].map((sale) => ({ ...sale, epoch: 1n, status: 'OPEN', released: false, segments: 1 })),
      );
    });

    it('counts units as returned once the sale has returned its unsold units', async () => {
      const { id } = await newSale(3);
      await returnUnits([id, 1]);
      assert.equal(await backend.it.returned(id), 0n);
      await backend.it.releaseSale(id);
      const [sale] = await returnUnits([id, 1]);
      assert.deepEqual([sale?.status, sale?.released], ['CLOSED', true]);
      assert.deepEqual([await backend.it.sold(id), await backend.it.returned(id)], [1n, 99n]);
    });

    it('never returns more units than were sold', async () => {
      const { id } = await newSale(1);
      await assert.rejects(returnUnits([id, 2]));
      assert.equal(await backend.it.sold(id), 1n);
    });

    it('returns nothing when the transaction is rolled back', async () => {
      const { id: saleId } = await newSale(1);
      await assert.rejects(
        run(async (tx) => {
          await backend.it.saleUnits.returnUnits(tx, [{ saleId, quantity: 1 }]);
          throw new Error('undone');
        }),
      );
      assert.equal(await backend.it.sold(saleId), 1n);
    });

    it('counts every unit when twenty transactions return units to the same sales in any order', async () => {
      const [a, b] = [await newSale(20), await newSale(20)];
      await Promise.all(
        times(20, (i) => {
          const two = [[a.id, 1] as const, [b.id, 1] as const];
          return returnUnits(...(i % 2 === 0 ? two : two.reverse()));
        }),
      );
      assert.deepEqual([await backend.it.sold(a.id), await backend.it.sold(b.id)], [0n, 0n]);
    });
  });
}
