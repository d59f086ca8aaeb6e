import assert from 'node:assert/strict';
import type { Content, NewContent } from '../../internal/biz/catalog/content.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, insertSku, type OpenBackend, useBackend } from './backend.js';

const SELLER = '00000000-0000-8000-8000-0000000000aa';

export function newContent(changes: Partial<NewContent> = {}): NewContent {
  return {
    ...{ title: `course ${freshId()}`, contentType: 'COURSE', priceFen: 1_990n, accessDays: undefined },
    ...{ publishStatus: 'PUBLISHED', sellerId: undefined, ...changes },
  };
}

export function contentRepoContract(name: string, open: OpenBackend): void {
  describe(`ContentRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);

    it('stores contents with the time that their access lasts', async () => {
      const { contents } = backend.it;
      for (const accessDays of [undefined, 30]) {
        const given = newContent({ accessDays, sellerId: SELLER, publishStatus: 'UNPUBLISHED' });
        const stored = await contents.insert(given);
        const { id, version, createdAt, updatedAt, ...rest } = stored;
        assert.deepEqual(rest, given);
        assert.deepEqual([version, createdAt], [1n, updatedAt]);
        assert.deepEqual(await contents.find(id), stored);
      }
      assert.equal(await contents.find(freshId()), undefined);
    });

    it('changes the fields of a patch, at the version that the caller saw only', async () => {
      const { contents } = backend.it;
      const stored = await contents.insert(newContent({ accessDays: 7 }));
      const update = (version: bigint, patch: object) => run((tx) => contents.update(tx, stored.id, version, patch));
      const titled = await update(1n, { title: 'new', priceFen: 5n });
      const expected: Content = { ...stored, title: 'new', priceFen: 5n, version: 2n };
      assert.deepEqual({ ...titled, updatedAt: stored.updatedAt }, expected);
      assert.equal(await update(1n, { title: 'late' }), undefined);
      assert.equal((await update(2n, { access: { accessDays: undefined } }))?.accessDays, undefined);
      assert.equal((await update(3n, { access: { accessDays: 9 } }))?.accessDays, 9);
      const last = await update(4n, { publishStatus: 'UNPUBLISHED', contentType: 'VIDEO', sellerId: SELLER });
      assert.deepEqual(
        [last?.accessDays, last?.publishStatus, last?.contentType, last?.sellerId, last?.title],
        [9, 'UNPUBLISHED', 'VIDEO', SELLER, 'new'],
      );
    });

    it('lists contents from the newest on, by part of the title, type and status', async () => {
      const { contents } = backend.it;
      const mark = `Mark${freshId()}`;
      const insert = (changes: Partial<NewContent>) => contents.insert(newContent(changes));
      const one = await insert({ title: `a ${mark}_100%` });
      const two = await insert({ title: `b ${mark}`, contentType: 'VIDEO' });
      const three = await insert({ title: `c ${mark}`, publishStatus: 'UNPUBLISHED' });
      const list = async (filter: object, belowId?: bigint, limit = 9) =>
        (await contents.list({ title: mark.toUpperCase(), ...filter }, belowId, limit)).map((c) => c.id);
      assert.deepEqual(await list({}), [three.id, two.id, one.id]);
      assert.deepEqual(await list({}, three.id, 1), [two.id]);
      assert.deepEqual(await list({ contentType: 'VIDEO' }), [two.id]);
      assert.deepEqual(await list({ publishStatus: 'UNPUBLISHED' }), [three.id]);
      assert.deepEqual(await list({ title: '_100%' }), [one.id]);
    });

    it('replaces what a sku opens, and leaves it where a content is missing', async () => {
      const { contents, catalog } = backend.it;
      const sku = await insertSku(backend.it, 0n);
      assert.deepEqual(sku.contents, []);
      const [a, b] = [await contents.insert(newContent()), await contents.insert(newContent())];
      const set = (skuId: bigint, ...opened: readonly (readonly [id: bigint, days?: number])[]) =>
        run((tx) =>
          contents.setSkuContents(
            tx,
            skuId,
            opened.map(([contentId, days]) => ({ contentId, days })),
          ),
        );
      const opened = async () => (await catalog.findGoods(sku.id))?.sku.contents;
      assert.equal(await set(sku.id, [a.id, 30], [b.id]), undefined);
      assert.deepEqual(await opened(), [
        { contentId: a.id, days: 30 },
        { contentId: b.id, days: undefined },
      ]);
      assert.deepEqual((await run((tx) => catalog.lockGoods(tx, [sku.id])))[0]?.sku.contents, await opened());
      const missing = freshId() + 10n ** 15n;
      assert.deepEqual(await set(sku.id, [b.id], [missing]), { missing: [missing] });
      assert.equal((await opened())?.length, 2);
      assert.equal(await set(sku.id, [b.id, 1]), undefined);
      assert.deepEqual(await opened(), [{ contentId: b.id, days: 1 }]);
      assert.equal(await set(sku.id), undefined);
      assert.deepEqual(await opened(), []);
      assert.equal(await set(missing), 'no-sku');
    });
  });
}
