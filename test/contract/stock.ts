import assert from 'node:assert/strict';
import {
  orderDeducted,
  orderHeld,
  orderReturned,
  saleHeld,
  saleResized,
  saleReturned,
} from '../../internal/biz/catalog/stock.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { adjustment, freshId, insertSku, type OpenBackend, times, useBackend } from './backend.js';

export function stockRepoContract(name: string, open: OpenBackend): void {
  describe(`StockRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const levelOf = async (skuId: bigint) => {
      const { stock, lockStock } = (await backend.it.catalog.findSku(skuId))!;
      return [stock, lockStock];
    };
    const orderOf = (skuId: bigint, quantity: number) => ({ id: freshId(), skuId, saleId: freshId(), quantity });

    it('changes a sku by the sum of the moves', async () => {
      const { id: skuId } = await insertSku(backend.it, 10n);
      const sale = { id: freshId(), itemId: skuId };
      await run((tx) => backend.it.stock.move(tx, [saleHeld(sale, 8n)]));
      assert.deepEqual(await levelOf(skuId), [10n, 8n]);
      const [paid, later, cancelled] = [orderOf(skuId, 1), orderOf(skuId, 2), orderOf(skuId, 3)];
      await run((tx) => backend.it.stock.move(tx, [orderDeducted(paid), orderHeld(later), orderHeld(cancelled)]));
      assert.deepEqual(await levelOf(skuId), [9n, 7n]);
      await run((tx) => backend.it.stock.move(tx, [orderDeducted(later), orderReturned(cancelled, false)]));
      assert.deepEqual(await levelOf(skuId), [7n, 5n]);
      await run((tx) => backend.it.stock.move(tx, [saleReturned(sale, 5n)]));
      assert.deepEqual(await levelOf(skuId), [7n, 0n]);
      await run((tx) => backend.it.stock.move(tx, []));
    });

    it('lists the ledger of a sku, newest first', async () => {
      const { stock } = backend.it;
      const [{ id: skuId }, other] = [await insertSku(backend.it, 5n), await insertSku(backend.it, 5n)];
      const order = orderOf(skuId, 2);
      await run((tx) => stock.move(tx, [orderHeld(order), adjustment(other.id, 1n)]));
      await run((tx) => stock.move(tx, [adjustment(skuId, -1n, 'r')]));
      const rows = await stock.listMoves(skuId, undefined, 10);
      assert.deepEqual(
        rows.map((r) => [r.kind, r.units, r.stockDelta, r.lockDelta, r.orderId, r.saleId, r.requestId, r.reason]),
        [
          ['ADJUST', 1n, -1n, 0n, undefined, undefined, 'r', ''],
          ['HOLD', 2n, 0n, 0n, order.id, order.saleId, undefined, ''],
          ['ADJUST', 5n, 5n, 0n, undefined, undefined, undefined, ''],
        ],
      );
      assert.ok(rows.every((r) => r.createdAt instanceof Date));
      assert.deepEqual(await stock.listMoves(skuId, rows[0]!.id, 1), rows.slice(1, 2));
      assert.deepEqual(await stock.listMoves(skuId, rows[2]!.id, 1), []);
    });

    it('changes several skus in one call', async () => {
      const [a, b] = [await insertSku(backend.it, 5n), await insertSku(backend.it, 5n)];
      await run((tx) => backend.it.stock.move(tx, [adjustment(b.id, 1n), adjustment(a.id, -2n), adjustment(b.id, 1n)]));
      assert.deepEqual(
        [await levelOf(a.id), await levelOf(b.id)],
        [
          [3n, 0n],
          [7n, 0n],
        ],
      );
    });

    it('rejects moves below the locked units and below zero', async () => {
      const { id: skuId } = await insertSku(backend.it, 3n);
      await run((tx) => backend.it.stock.move(tx, [saleHeld({ id: freshId(), itemId: skuId }, 2n)]));
      for (const move of [
        adjustment(skuId, -2n),
        saleHeld({ id: freshId(), itemId: skuId }, 2n),
        orderDeducted(orderOf(skuId, 3)),
        orderReturned(orderOf(skuId, 3), true),
      ]) {
        await assert.rejects(run((tx) => backend.it.stock.move(tx, [move])));
      }
      assert.deepEqual(await levelOf(skuId), [3n, 2n]);
    });

    it('writes one row per order and kind, per sale and kind, and per request', async () => {
      const { id: skuId } = await insertSku(backend.it, 10n);
      const [sale, order] = [{ id: freshId(), itemId: skuId }, orderOf(skuId, 1)];
      const moves = [saleHeld(sale, 3n), orderDeducted(order), adjustment(skuId, 1n, 'r')];
      await run((tx) => backend.it.stock.move(tx, moves));
      for (const move of moves) await assert.rejects(run((tx) => backend.it.stock.move(tx, [move])));
      assert.deepEqual(await levelOf(skuId), [10n, 2n]);
      await run((tx) => backend.it.stock.move(tx, [orderReturned(order, true), saleReturned(sale, 1n)]));
      assert.deepEqual(await levelOf(skuId), [10n, 0n]);
      await run((tx) => backend.it.stock.move(tx, [adjustment(skuId, 1n), adjustment(skuId, 1n)]));
      assert.deepEqual(await levelOf(skuId), [12n, 0n]);
    });

    it('lets a sale change its units often', async () => {
      const { id: skuId } = await insertSku(backend.it, 10n);
      const sale = { id: freshId(), itemId: skuId };
      await run((tx) => backend.it.stock.move(tx, [saleHeld(sale, 3n)]));
      for (const more of [4n, 2n, -5n, -1n]) await run((tx) => backend.it.stock.move(tx, [saleResized(sale, more)]));
      assert.deepEqual(await levelOf(skuId), [10n, 3n]);
      await assert.rejects(run((tx) => backend.it.stock.move(tx, [saleResized(sale, -4n)])));
      await assert.rejects(run((tx) => backend.it.stock.move(tx, [saleResized(sale, 8n)])));
    });

    it('finds an adjustment by its request id', async () => {
      const [a, b] = [await insertSku(backend.it, 5n), await insertSku(backend.it, 5n)];
      await run((tx) => backend.it.stock.move(tx, [adjustment(a.id, -2n, 'same'), adjustment(b.id, 4n, 'same')]));
      const find = (skuId: bigint, requestId: string) =>
        run((tx) => backend.it.stock.findAdjustment(tx, skuId, requestId));
      assert.deepEqual([await find(a.id, 'same'), await find(b.id, 'same')], [-2n, 4n]);
      assert.equal(await find(a.id, 'other'), undefined);
    });

    it('locks a sku and increments its version only for adjustments', async () => {
      const sku = await insertSku(backend.it, 5n);
      await run((tx) => backend.it.stock.move(tx, [saleHeld({ id: freshId(), itemId: sku.id }, 2n)]));
      const level = await run((tx) => backend.it.stock.lock(tx, sku.id));
      assert.deepEqual(level, { stock: 5n, lockStock: 2n, version: sku.version });
      await run((tx) => backend.it.stock.move(tx, [adjustment(sku.id, 1n)]));
      assert.equal((await run((tx) => backend.it.stock.lock(tx, sku.id)))?.version, sku.version + 1n);
      assert.equal(await run((tx) => backend.it.stock.lock(tx, 999_999_999n)), undefined);
    });

    it('counts every unit when twenty transactions change the same skus in any order', async () => {
      const [a, b] = [await insertSku(backend.it, 100n), await insertSku(backend.it, 100n)];
      await Promise.all(
        times(20, (i) => {
          const moves = [adjustment(a.id, -1n), adjustment(b.id, 2n)];
          return run((tx) => backend.it.stock.move(tx, i % 2 === 0 ? moves : moves.reverse()));
        }),
      );
      assert.deepEqual(
        [await levelOf(a.id), await levelOf(b.id)],
        [
          [80n, 0n],
          [140n, 0n],
        ],
      );
    });

    it('changes nothing when the transaction is rolled back', async () => {
      const { id: skuId } = await insertSku(backend.it, 5n);
      await assert.rejects(
        run(async (tx) => {
          await backend.it.stock.move(tx, [adjustment(skuId, 3n, 'undone')]);
          throw new Error('undone');
        }),
      );
      assert.deepEqual(await levelOf(skuId), [5n, 0n]);
      assert.equal(await run((tx) => backend.it.stock.findAdjustment(tx, skuId, 'undone')), undefined);
    });
  });
}
