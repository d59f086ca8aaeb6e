import assert from 'node:assert/strict';
import type { NewSale, Sale, SaleStatus } from '../../internal/biz/seckill/sale-state.js';
import { encodeUnitsReturn, TOPIC_SECKILL_RETURN } from '../../internal/biz/seckill/seckill-return.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, freshUser, insertProduct, newOrder, type OpenBackend, useBackend } from './backend.js';

const HOUR_MS = 3_600_000;

export function saleRepoContract(name: string, open: OpenBackend): void {
  describe(`SaleRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const sales = () => backend.it.sales;
    const newSale = async (changes: Partial<NewSale> = {}): Promise<Sale> => {
      const { id: itemId } = await insertProduct(backend.it.products);
      const planned: NewSale = {
        ...{
          id: freshId(),
          itemId,
          orderType: 'INSTANCE',
          name: 'sale',
          total: 5n,
          priceFen: 1n,
          payMode: 'PAY_LATER',
        },
        ...{ startsAt: new Date(Date.now() - HOUR_MS), endsAt: undefined, payTimeoutMs: 60_000, defaultLimit: 2 },
        ...{ requireToken: false, admitRate: 0, segments: 1, ...changes },
      };
      return (await run((tx) => sales().insert(tx, planned)))!;
    };
    const openSale = async (changes: Partial<NewSale> = {}) => {
      const { id } = await newSale(changes);
      return run((tx) => sales().open(tx, id));
    };
    /** An order of the sale, with the inbox row of its entry. */
    const buy = async (sale: Sale, userId: string, streamId: string, quantity = 1) => {
      const [product] = [await backend.it.products.find(sale.itemId)];
      const order = newOrder(product!, { userId, saleId: sale.id, source: 'SECKILL', quantity, payTimeoutMs: 60_000 });
      await run(async (tx) => {
        await backend.it.orders.insert(tx, [order], 'seckill');
      });
      await backend.it.insertInboxRow(order, streamId);
      return order;
    };

    it('plans one sale of an item at a time that is not closed', async () => {
      const sale = await newSale();
      assert.deepEqual([sale.status, sale.epoch, sale.version, sale.settingsVersion], ['SCHEDULED', 0n, 1n, 1n]);
      const again = await run((tx) => sales().insert(tx, { ...sale, id: freshId() }));
      assert.equal(again, undefined);
      await run((tx) => sales().close(tx, sale.id));
      assert.notEqual(await run((tx) => sales().insert(tx, { ...sale, id: freshId() })), undefined);
    });

    it('lists and counts the sales of one status, or all of them, in pages, the highest id first', async () => {
      const list = (status?: SaleStatus) => sales().list({ offset: 0, limit: 10_000 }, status);
      const [before, openBefore] = [await list(), await list('OPEN')];
      const { id: planned } = await newSale();
      const { id: open } = await openSale();
      const [all, onlyOpen] = [await list(), await list('OPEN')];
      assert.deepEqual([all.total, onlyOpen.total], [before.total + 2n, openBefore.total + 1n]);
      const ids = all.items.map((s) => s.id);
      assert.deepEqual(
        ids,
        [...before.items.map((s) => s.id), planned, open].sort((a, b) => (a < b ? 1 : -1)),
      );
      assert.deepEqual(
        onlyOpen.items.map((s) => s.id).filter((id) => !openBefore.items.some((s) => s.id === id)),
        [open],
      );
      const second = await sales().list({ offset: 1, limit: 1 }, undefined);
      assert.deepEqual([second.items.map((s) => s.id), second.total], [[ids[1]], all.total]);
    });

    it('gives each opening a higher epoch and remembers the first', async () => {
      const first = await openSale();
      const second = await run((tx) => sales().open(tx, first.id));
      assert.deepEqual([first.status, first.firstEpoch], ['OPEN', first.epoch]);
      assert.ok(second.epoch > first.epoch);
      assert.equal(second.firstEpoch, first.epoch);
    });

    it('finds and locks the sale that is not closed, and finds the last one after its end', async () => {
      const { id, itemId } = await openSale();
      assert.deepEqual((await sales().findCurrent(itemId))?.status, 'OPEN');
      assert.equal((await run((tx) => sales().lockLive(tx, itemId)))?.id, id);
      await run((tx) => sales().close(tx, id));
      assert.equal(await run((tx) => sales().lockLive(tx, itemId)), undefined);
      assert.deepEqual((await sales().findCurrent(itemId))?.status, 'CLOSED');
    });

    it('locks a sale as over only after its end', async () => {
      const [running, over] = [await openSale(), await openSale({ endsAt: new Date(Date.now() - 1_000) })];
      assert.equal(await run((tx) => sales().lockOver(tx, running.itemId)), undefined);
      assert.equal((await run((tx) => sales().lockOver(tx, over.itemId)))?.id, over.id);
    });

    it('says whether an order of the sale waits for payment', async () => {
      const sale = await openSale();
      assert.equal((await sales().findCurrent(sale.itemId))?.unpaid, false);
      await buy(sale, freshUser(), '1-0');
      assert.equal((await sales().findCurrent(sale.itemId))?.unpaid, true);
    });

    it('changes a sale only at the version that the caller saw, and counts its settings', async () => {
      const sale = await openSale();
      const changed = await run((tx) => sales().update(tx, sale.id, sale.version, { defaultLimit: 3 }));
      assert.deepEqual(
        [changed?.defaultLimit, changed?.version, changed?.settingsVersion],
        [3, sale.version + 1n, sale.settingsVersion + 1n],
      );
      assert.equal(await run((tx) => sales().update(tx, sale.id, sale.version, { defaultLimit: 4 })), undefined);
      const endsAt = new Date(Date.now() + HOUR_MS);
      const ended = await run((tx) => sales().update(tx, sale.id, changed!.version, { total: 9n, endsAt }));
      assert.deepEqual([ended?.total, ended?.endsAt, ended?.defaultLimit], [9n, endsAt, 3]);
      const endless = await run((tx) => sales().update(tx, sale.id, ended!.version, { endsAt: null }));
      assert.deepEqual([endless?.total, endless?.endsAt], [9n, undefined]);
    });

    it('lists the limits that changed after a settings version, in the order of their changes', async () => {
      const sale = await openSale();
      const [a, b] = [freshUser(), freshUser()];
      const set = (userId: string, units: number, version: bigint) =>
        run((tx) => backend.it.vipLimits.set(tx, { saleId: sale.id, userId }, units, version));
      assert.deepEqual(await set(a, 3, 0n), { units: 3, version: 1n });
      assert.equal(await set(a, 4, 0n), undefined);
      assert.deepEqual(await set(b, 5, 0n), { units: 5, version: 1n });
      assert.deepEqual(await set(a, 6, 1n), { units: 6, version: 2n });
      assert.deepEqual(await backend.it.vipLimits.find({ saleId: sale.id, userId: a }), { units: 6, version: 2n });
      const now = (await sales().findCurrent(sale.itemId))!;
      assert.equal(now.settingsVersion, sale.settingsVersion + 3n);
      const all = await backend.it.vipLimits.findChanged(now, sale.settingsVersion, 10);
      assert.deepEqual(
        [all.vipLimits, all.upTo],
        [
          [
            { userId: b, units: 5 },
            { userId: a, units: 6 },
          ],
          now.settingsVersion,
        ],
      );
      await buy(sale, a, '30-0');
      const listed = await backend.it.vipLimits.list(sale.id, { offset: 0, limit: 10 });
      const wanted = [
        { userId: a, units: 6, version: 2n, taken: 1 },
        { userId: b, units: 5, version: 1n, taken: 0 },
      ];
      assert.deepEqual(listed, { items: wanted.sort((x, y) => (x.userId < y.userId ? -1 : 1)), total: 2n });
      const first = await backend.it.vipLimits.findChanged(now, sale.settingsVersion, 1);
      assert.deepEqual([first.vipLimits, first.upTo], [[{ userId: b, units: 5 }], now.settingsVersion - 1n]);
    });

    it('makes a snapshot of live units, limits and the outcomes of given entries', async () => {
      const sale = await openSale();
      const [a, b] = [freshUser(), freshUser()];
      await buy(sale, a, '10-0', 1);
      await buy(sale, a, '11-0', 1);
      const { id } = await buy(sale, b, '12-0', 1);
      await run(async (tx) => {
        const order = (await backend.it.orders.lock(tx, id, undefined))!;
        await backend.it.orders.compareAndSet(tx, order, { to: 'CANCELLED', actor: 'user', reason: '' });
        await backend.it.vipLimits.set(tx, { saleId: sale.id, userId: b }, 9, 0n);
      });
      const snapshot = await run((tx) => sales().snapshot(tx, sale, ['11-0', '13-0']));
      assert.deepEqual(snapshot.buyers, [{ userId: a, units: 2 }]);
      assert.deepEqual(snapshot.vipLimits, [{ userId: b, units: 9 }]);
      assert.deepEqual([...snapshot.settled], [['11-0', a]]);
      const counted = [a, b].map((userId) => sales().countUnits({ saleId: sale.id, userId }));
      assert.deepEqual(await Promise.all(counted), [2, 0]);
    });

    it('tells what is due: to be opened, open, to be closed, and closed', async () => {
      const soon = new Date(Date.now() + 2_000);
      const past = new Date(Date.now() - 1_000);
      const scheduled = await newSale({ startsAt: soon });
      const later = await newSale({ startsAt: new Date(Date.now() + HOUR_MS) });
      const over = await openSale({ endsAt: past });
      const running = await openSale();
      const closed = await openSale();
      await run((tx) => sales().close(tx, closed.id));
      const ofTest = new Set([scheduled, later, over, running, closed].map((s) => s.id));
      const due = async () => {
        const found = await sales().findDue(5_000);
        const ids = (list: readonly Sale[]) => list.map((s) => s.id).filter((id) => ofTest.has(id));
        const confirmed = found.closed.find((s) => s.id === closed.id)?.confirmed;
        return [ids(found.toOpen), ids(found.open), ids(found.toClose), ids(found.closed), confirmed];
      };
      assert.deepEqual(await due(), [[scheduled.id], [running.id], [over.id], [closed.id], false]);
      await sales().confirmClosed(closed.id);
      assert.deepEqual(await due(), [[scheduled.id], [running.id], [over.id], [closed.id], true]);
    });

    it('accounts for an open sale: outcomes, units on their way back, and a sample of its buyers', async () => {
      const sale = await openSale();
      const [a, b] = [freshUser(), freshUser()].sort() as [string, string];
      const { id: returnId } = await buy(sale, a, '20-0');
      await buy(sale, b, '21-0');
      const units = { returnId, itemId: sale.itemId, userId: a, quantity: 1, epoch: sale.epoch };
      const older = { ...units, returnId: freshId(), epoch: sale.epoch - 1n };
      await run((tx) =>
        backend.it.outbox.append(
          tx,
          [units, older].map((u) => ({
            topic: TOPIC_SECKILL_RETURN,
            refId: u.returnId,
            payload: Buffer.from(encodeUnitsReturn(u)),
          })),
        ),
      );
      const query = { saleId: sale.id, streamIds: ['20-0', '22-0'], userIds: ['no-uuid'], sample: 1 };
      const account = await backend.it.accounts.read({ ...query, sampleAfter: undefined });
      assert.deepEqual(
        [account?.sale.id, [...account!.outcomes.keys()], account?.returns, account?.lastSampled],
        [sale.id, ['20-0'], [units], a],
      );
      assert.deepEqual(
        [...account!.buyers].sort(),
        [
          [a, 1],
          ['no-uuid', 0],
        ].sort(),
      );
      const next = await backend.it.accounts.read({ ...query, sampleAfter: b });
      assert.deepEqual([[...next!.buyers], next?.lastSampled], [[['no-uuid', 0]], undefined]);
      await run((tx) => sales().close(tx, sale.id));
      assert.equal(await backend.it.accounts.read({ ...query, sampleAfter: undefined }), undefined);
    });
  });
}
