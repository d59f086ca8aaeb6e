import assert from 'node:assert/strict';
import type { Product } from '../../internal/biz/catalog/product.js';
import { type CreateInstance, type InstanceEvent, instanceName } from '../../internal/biz/instance/instance.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, freshUser, insertProduct, type OpenBackend, times, useBackend } from './backend.js';

type NewRequest = CreateInstance & { readonly instanceId: bigint };

export function instanceRepoContract(name: string, open: OpenBackend): void {
  describe(`InstanceRepo ${name}`, () => {
    const backend = useBackend(open);
    let plan: Product;
    before(async () => {
      plan = await insertProduct(backend.it.products);
    });

    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const newRequest = (changes: Partial<NewRequest> = {}): NewRequest => ({
      instanceId: freshId(),
      productId: plan.id,
      userId: freshUser(),
      source: 'ACTIVITY',
      sourceId: `src-${freshId()}`,
      orderId: undefined,
      ...changes,
    });
    const eventOf = (r: NewRequest): InstanceEvent => ({
      ...r,
      name: instanceName(r.instanceId),
      spec: plan.spec,
      at: new Date(),
    });
    const insert = (requests: readonly NewRequest[]) =>
      run((tx) => backend.it.instances.insertRequests(tx, requests.map(eventOf)));

    it('stores requests and returns one for each, in order', async () => {
      const given = [newRequest({ orderId: freshId() }), newRequest(), newRequest({ source: 'ORDER' })];
      const stored = await insert(given);
      assert.deepEqual(
        stored.map(({ createdAt: _, ...rest }) => rest),
        given.map((g) => ({ ...g, status: 'REQUESTED', reason: '', reportedAt: undefined })),
      );
      for (const s of stored) assert.deepEqual(await backend.it.instances.find(s.instanceId), s);
    });

    it('stores nothing for an empty batch', async () => {
      assert.deepEqual(await insert([]), []);
    });

    it('returns the earlier request of a known source within a batch of new ones', async () => {
      const [a, b, c] = [newRequest(), newRequest(), newRequest()];
      const [known] = await insert([b]);
      const again = { ...b, instanceId: freshId(), userId: freshUser() };
      const stored = await insert([a, again, c]);
      assert.deepEqual(
        stored.map((s) => s.instanceId),
        [a.instanceId, b.instanceId, c.instanceId],
      );
      assert.deepEqual(stored[1], known);
      assert.equal(await backend.it.instances.find(again.instanceId), undefined);
    });

    it('stores the first of several requests with one source within a batch', async () => {
      const first = newRequest();
      const batch = [first, newRequest(), { ...first, instanceId: freshId() }, { ...first, instanceId: freshId() }];
      const stored = await insert(batch);
      assert.deepEqual(
        stored.map((s) => s.instanceId),
        [first.instanceId, batch[1]!.instanceId, first.instanceId, first.instanceId],
      );
    });

    it('treats one source id of two products or two sources as different requests', async () => {
      const a = newRequest();
      const b = { ...a, instanceId: freshId(), productId: (await insertProduct(backend.it.products)).id };
      const c = { ...a, instanceId: freshId(), source: 'SECKILL' };
      const ids = (await insert([a, b, c])).map((s) => s.instanceId);
      assert.deepEqual(ids, [a.instanceId, b.instanceId, c.instanceId]);
    });

    it('gives the same instance to twenty concurrent requests with one source', async () => {
      const asked = newRequest();
      const stored = await Promise.all(times(20, () => insert([{ ...asked, instanceId: freshId() }])));
      assert.equal(new Set(stored.map(([s]) => s?.instanceId)).size, 1);
    });

    it('gives the same instances to twenty overlapping batches in any order', async () => {
      const asked = times(8, () => newRequest());
      const shuffled = times(20, (n) => asked.map((_, i) => asked[(i * (n % 2 === 0 ? 3 : 5) + n) % asked.length]!));
      const stored = await Promise.all(
        shuffled.map((batch) => insert(batch.map((r) => ({ ...r, instanceId: freshId() })))),
      );
      const bySource = new Map(stored.flat().map((s) => [`${s.sourceId} ${s.instanceId}`, s]));
      assert.equal(bySource.size, asked.length);
    });

    it('stores no request of a transaction that is rolled back', async () => {
      const asked = newRequest();
      await assert.rejects(
        run(async (tx) => {
          await backend.it.instances.insertRequests(tx, [eventOf(asked)]);
          throw new Error('undone');
        }),
      );
      assert.equal(await backend.it.instances.find(asked.instanceId), undefined);
      const again = { ...asked, instanceId: freshId() };
      assert.equal((await insert([again]))[0]?.instanceId, again.instanceId);
    });

    it('appends an outbox event for each new request in the same transaction', async () => {
      const asked = [newRequest(), newRequest({ orderId: freshId() })];
      await assert.rejects(
        run(async (tx) => {
          await backend.it.instances.insertRequests(tx, asked.map(eventOf));
          throw new Error('undone');
        }),
      );
      assert.deepEqual(await backend.it.topics(asked[0]!.instanceId), []);
      await insert(asked);
      const again = { ...asked[0]!, instanceId: freshId() };
      const added = newRequest();
      await insert([again, added]);
      for (const { instanceId } of [...asked, added]) {
        assert.deepEqual(await backend.it.topics(instanceId), ['instance.created']);
      }
      assert.deepEqual(await backend.it.topics(again.instanceId), []);
    });

    it('stores requests of new sources with their events', async () => {
      const asked = [newRequest({ orderId: freshId() }), newRequest()];
      assert.equal(await run((tx) => backend.it.instances.insertNew(tx, asked.map(eventOf))), true);
      for (const a of asked) {
        const { createdAt: _, ...stored } = (await backend.it.instances.find(a.instanceId))!;
        assert.deepEqual(stored, { ...a, status: 'REQUESTED', reason: '', reportedAt: undefined });
        assert.deepEqual(await backend.it.topics(a.instanceId), ['instance.created']);
      }
    });

    it('says that one of several sources is not new', async () => {
      const known = newRequest();
      await insert([known]);
      const added = newRequest();
      const batch = [added, { ...known, instanceId: freshId() }].map(eventOf);
      const rolledBack = run(async (tx) => {
        assert.equal(await backend.it.instances.insertNew(tx, batch), false);
        throw new Error('undone');
      });
      await assert.rejects(rolledBack, /undone/);
      assert.equal(await backend.it.instances.find(added.instanceId), undefined);
    });

    it('locks a request and records its report', async () => {
      const asked = newRequest();
      await insert([asked]);
      const { instanceId } = asked;
      const reported = await run(async (tx) => {
        assert.equal((await backend.it.instances.lock(tx, instanceId))?.status, 'REQUESTED');
        return backend.it.instances.setReport(tx, { instanceId, status: 'FAILED', reason: '无'.repeat(2_000) });
      });
      assert.deepEqual([reported.status, reported.reason], ['FAILED', '无'.repeat(1_024)]);
      assert.ok(reported.reportedAt);
      assert.deepEqual(await backend.it.instances.find(instanceId), reported);
      assert.equal(await run((tx) => backend.it.instances.lock(tx, freshId())), undefined);
      assert.equal(await backend.it.instances.find(freshId()), undefined);
    });

    it('records the success of the requests of a batch that have no report, and returns them', async () => {
      const { instances } = backend.it;
      const [a, b, failed] = [newRequest({ orderId: freshId() }), newRequest(), newRequest()];
      await insert([a, b, failed]);
      const report = { instanceId: failed.instanceId, status: 'FAILED', reason: 'r' } as const;
      const left = await run((tx) => instances.setReport(tx, report));
      const ids = [failed, b, a].map((r) => r.instanceId);
      const created = await run((tx) => instances.setCreated(tx, [...ids, freshId()]));
      assert.deepEqual(
        new Map(created.map((r) => [r.instanceId, r.orderId])),
        new Map([a, b].map((r) => [r.instanceId, r.orderId])),
      );
      const found = await instances.find(a.instanceId);
      assert.deepEqual([found?.status, found?.reason], ['SUCCESS', '']);
      assert.ok(found?.reportedAt);
      assert.deepEqual(await instances.find(failed.instanceId), left);
      assert.deepEqual(await run((tx) => instances.setCreated(tx, ids)), []);
    });

    describe('resendLost', () => {
      const MINUTE = 60_000;
      const resend = (minMinutes: number, maxMinutes: number, limit = 100) =>
        backend.it.instances.resendLost(minMinutes * MINUTE, maxMinutes * MINUTE, limit);
      const request = async (ageMinutes: number | undefined) => {
        const asked = newRequest();
        await insert([asked]);
        if (ageMinutes !== undefined) await backend.it.publish(asked.instanceId, ageMinutes * MINUTE);
        return asked.instanceId;
      };

      it('publishes the events of requests of that age again, once', async () => {
        await request(31);
        await request(39);
        assert.equal(await resend(30, 40), 2);
        assert.equal(await resend(30, 40), 0);
      });

      it('leaves out younger and older requests', async () => {
        await request(49);
        await request(61);
        assert.equal(await resend(50, 60), 0);
      });

      it('leaves out requests with a report, and those whose event is not published yet', async () => {
        const instanceId = await request(75);
        await run((tx) => backend.it.instances.setReport(tx, { instanceId, status: 'FAILED', reason: '' }));
        await request(undefined);
        assert.equal(await resend(70, 80), 0);
        assert.equal(await resend(0, 1), 0);
      });

      it('publishes no more than the limit at a time', async () => {
        for (let i = 0; i < 3; i++) await request(95);
        assert.deepEqual([await resend(90, 100, 2), await resend(90, 100, 2), await resend(90, 100, 2)], [2, 1, 0]);
      });
    });

    it('serializes twenty transactions that lock a request, so that one of them reports', async () => {
      const asked = newRequest();
      await insert([asked]);
      const { instanceId } = asked;
      const decided = await Promise.all(
        times(20, () =>
          run(async (tx) => {
            if ((await backend.it.instances.lock(tx, instanceId))?.status !== 'REQUESTED') return false;
            await backend.it.instances.setReport(tx, { instanceId, status: 'SUCCESS', reason: '' });
            return true;
          }),
        ),
      );
      assert.equal(decided.filter(Boolean).length, 1);
    });
  });
}
