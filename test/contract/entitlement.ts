import assert from 'node:assert/strict';
import type { Content, NewContent } from '../../internal/biz/catalog/content.js';
import type { Access, Entitlement, NewEntitlement } from '../../internal/biz/entitlement/entitlement-state.js';
import type { Transaction } from '../../internal/biz/transaction.js';
import { freshId, freshUser, insertSku, newGoodsOrder, type OpenBackend, times, useBackend } from './backend.js';
import { newContent } from './content.js';

const DAY_MS = 86_400_000;

export function entitlementRepoContract(name: string, open: OpenBackend): void {
  describe(`EntitlementRepo ${name}`, () => {
    const backend = useBackend(open);
    const run = <T>(work: (tx: Transaction) => Promise<T>) => backend.it.transactions.run(work);
    const insertContent = (changes: Partial<NewContent> = {}): Promise<Content> =>
      backend.it.contents.insert(newContent(changes));
    /** A user with a content. */
    const freshAccess = async (): Promise<Access & { readonly content: Content }> => {
      const content = await insertContent();
      return { userId: freshUser(), contentId: content.id, content };
    };
    const grant = (...granted: readonly NewEntitlement[]) =>
      run(async (tx) => {
        await backend.it.entitlements.lock(tx, granted);
        return backend.it.entitlements.insert(tx, granted);
      });
    const temporary = ({ userId, contentId }: Access, days: number, changes: Partial<NewEntitlement> = {}) => {
      return { userId, contentId, days, requestId: String(freshId()), ...changes };
    };
    const of = (access: Access) => run((tx) => backend.it.entitlements.listOfAccess(tx, access));
    const byId = async (access: Access) => [...(await of(access))].sort((a, b) => Number(a.id - b.id));
    const revoke = (id: bigint, keepDays = 0) =>
      run((tx) => backend.it.entitlements.revoke(tx, { id, keepDays, reason: 'because' }));
    const check = (access: Access) => backend.it.entitlements.check(access);
    const days = (from: Date | undefined, to: Date | undefined) =>
      ((to?.getTime() ?? Number.NaN) - (from?.getTime() ?? Number.NaN)) / DAY_MS;
    const insertOrder = async (): Promise<bigint> => {
      const order = newGoodsOrder([[await insertSku(backend.it, 0n), 1]]);
      await run((tx) => backend.it.orders.insertGoods(tx, [order], 'user'));
      return order.id;
    };

    it('stores an entitlement with copies of its content', async () => {
      const { content, ...access } = await freshAccess();
      const orderId = await insertOrder();
      assert.equal(await grant({ ...access, orderId, goodsType: 'CARD', days: 30 }), 1);
      const [stored] = await of(access);
      const { id, startsAt, endsAt, createdAt, ...rest } = stored!;
      assert.deepEqual(rest, {
        ...{ ...access, orderId, goodsType: 'CARD', status: 'ACTIVE', reason: '' },
        ...{ contentTitle: content.title, contentType: 'COURSE' },
      });
      assert.equal(days(startsAt, endsAt), 30);
      assert.equal(startsAt.getTime(), createdAt.getTime());
      assert.deepEqual(await run((tx) => backend.it.entitlements.listOfOrder(tx, orderId)), [stored]);
      assert.deepEqual(await backend.it.entitlements.list(access.userId, undefined, undefined, 9), [stored]);
      assert.ok(id > 0n);
    });

    it('stores one entitlement for each order and content, and for each request', async () => {
      const { content: _, ...access } = await freshAccess();
      const orderId = await insertOrder();
      assert.equal(await grant({ ...access, orderId, days: 5 }), 1);
      assert.equal(await grant({ ...access, orderId, days: 5 }), 0);
      assert.equal(await grant(temporary(access, 5, { requestId: 'r', reason: 'gift' })), 1);
      assert.equal(await grant(temporary(access, 5, { requestId: 'r' })), 0);
      const found = await run((tx) => backend.it.entitlements.findByRequest(tx, access, 'r'));
      assert.deepEqual([found?.orderId, found?.reason], [undefined, 'gift']);
      const other = { ...access, userId: freshUser() };
      assert.equal(await grant(temporary(other, 5, { requestId: 'r' })), 1);
      assert.equal((await of(access)).length, 2);
    });

    it('stores nothing for a content that does not exist', async () => {
      const access = { userId: freshUser(), contentId: freshId() + 10n ** 15n };
      assert.equal(await grant(temporary(access, 5)), 0);
    });

    it('begins temporary access where that of the user ends, also within one call', async () => {
      const access = await freshAccess();
      await grant(temporary(access, 30));
      await grant(temporary(access, 10), temporary(access, 5));
      const [first, second, third] = await of(access);
      assert.deepEqual([first?.endsAt, second?.endsAt], [second?.startsAt, third?.startsAt]);
      assert.equal(days(first?.startsAt, third?.endsAt), 45);
      const state = await check(access);
      assert.deepEqual(state, { hasAccess: true, until: third?.endsAt });
    });

    it('gives racing orders of temporary access all of their days', async () => {
      const access = await freshAccess();
      await Promise.all(times(8, () => grant(temporary(access, 3))));
      const chain = await of(access);
      assert.equal(days(chain[0]?.startsAt, chain.at(-1)?.endsAt), 24);
    });

    it('gives permanent access beside temporary access, and at once', async () => {
      const access = await freshAccess();
      const { entitlements } = backend.it;
      const { userId, contentId } = access;
      assert.deepEqual(await check(access), { hasAccess: false });
      await grant(temporary(access, 30));
      assert.deepEqual(await entitlements.findPermanent(undefined, [access]), []);
      const orderId = await insertOrder();
      await grant({ userId, contentId, days: undefined, orderId });
      assert.deepEqual(await check(access), { hasAccess: true, until: undefined });
      const owned = await entitlements.findPermanent(undefined, [{ ...access, userId: freshUser() }, access]);
      assert.deepEqual(
        owned.map((a) => [a.userId, a.contentId]),
        [[userId, contentId]],
      );
      assert.deepEqual(await run((tx) => entitlements.findPermanent(tx, [access], orderId)), []);
      const permanent = (await of(access)).find((e) => e.endsAt === undefined)!;
      await revoke(permanent.id);
      assert.deepEqual(await entitlements.findPermanent(undefined, [access]), []);
      assert.equal((await check(access)).hasAccess, true);
    });

    it('moves the access that follows a revoked one forward by what was not used', async () => {
      const access = await freshAccess();
      for (const n of [30, 20, 10]) await grant(temporary(access, n));
      const [first, second] = await of(access);
      await revoke(first!.id);
      const [revoked, ...rest] = await byId(access);
      assert.deepEqual([revoked?.status, revoked?.reason, revoked?.endsAt], ['REVOKED', 'because', first?.endsAt]);
      assert.ok(rest[0]!.startsAt.getTime() >= revoked!.startsAt.getTime());
      assert.ok(rest[0]!.startsAt.getTime() < revoked!.startsAt.getTime() + 60_000, 'the second begins now');
      assert.deepEqual(rest[0]?.endsAt, rest[1]?.startsAt);
      assert.deepEqual([days(rest[0]?.startsAt, rest[0]?.endsAt), days(rest[1]?.startsAt, rest[1]?.endsAt)], [20, 10]);
      await revoke(first!.id);
      assert.deepEqual((await byId(access)).slice(1), rest, 'revoking again');
      await revoke(second!.id);
      assert.equal((await check(access)).hasAccess, true);
      await revoke(rest[1]!.id);
      assert.deepEqual(await check(access), { hasAccess: false });
    });

    it('shortens an entitlement to the days that stay', async () => {
      const access = await freshAccess();
      for (const n of [30, 10]) await grant(temporary(access, n));
      const [first] = await of(access);
      await revoke(first!.id, 20);
      const [shorter, next] = await of(access);
      assert.deepEqual(
        [shorter?.id, shorter?.status, days(shorter?.startsAt, shorter?.endsAt)],
        [first?.id, 'ACTIVE', 20],
      );
      assert.deepEqual([next?.startsAt, days(next?.startsAt, next?.endsAt)], [shorter?.endsAt, 10]);
      await revoke(first!.id, 25);
      assert.deepEqual((await of(access))[0], shorter, 'nothing is given back');
    });

    it('limits permanent access to the days that stay', async () => {
      const { userId, contentId } = await freshAccess();
      await grant({ userId, contentId, days: undefined, requestId: 'r' });
      const [permanent] = await of({ userId, contentId });
      await revoke(permanent!.id, 7);
      const [limited] = await of({ userId, contentId });
      assert.equal(days(limited?.startsAt, limited?.endsAt), 7);
      assert.deepEqual(await check({ userId, contentId }), { hasAccess: true, until: limited?.endsAt });
    });

    it('checks many accesses in the order in which they are given', async () => {
      const [one, two] = [await freshAccess(), await freshAccess()];
      await grant(temporary(one, 3));
      const [{ endsAt } = {} as Entitlement] = await of(one);
      assert.deepEqual(await backend.it.entitlements.checkAll([two, one, { ...two, userId: one.userId }]), [
        { hasAccess: false },
        { hasAccess: true, until: endsAt },
        { hasAccess: false },
      ]);
      assert.deepEqual(await backend.it.entitlements.checkAll([]), []);
    });

    it('lists the entitlements of a user from the newest on, by status', async () => {
      const [one, other] = [await freshAccess(), await freshAccess()];
      const two = { ...other, userId: one.userId };
      await grant(temporary(one, 1));
      await grant(temporary(two, 1));
      const list = async (status?: 'ACTIVE' | 'REVOKED', belowId?: bigint, limit = 9) =>
        (await backend.it.entitlements.list(one.userId, status, belowId, limit)).map((e) => e.contentId);
      assert.deepEqual(await list(), [two.contentId, one.contentId]);
      const [newest] = await of(two);
      assert.deepEqual(await list(undefined, newest?.id), [one.contentId]);
      assert.deepEqual(await list('ACTIVE', undefined, 1), [two.contentId]);
      await revoke(newest!.id);
      assert.deepEqual([await list('ACTIVE'), await list('REVOKED')], [[one.contentId], [two.contentId]]);
    });

    it('expires entitlements whose end has passed, and leaves those that another transaction has', async () => {
      const accesses = await Promise.all(times(3, freshAccess));
      await grant(...accesses.map((a) => temporary(a, 2)));
      const statuses = async () => (await Promise.all(accesses.map(of))).map(([e]) => e?.status);
      await backend.it.ageEntitlements(accesses.slice(0, 2), 3 * DAY_MS);
      assert.deepEqual(await Promise.all(accesses.map(async (a) => (await check(a)).hasAccess)), [false, false, true]);
      assert.deepEqual(await statuses(), ['ACTIVE', 'ACTIVE', 'ACTIVE'], 'a check changes nothing');
      const expire = async (limit: number) => {
        let sum = 0;
        for (let n = limit; n === limit; sum += n) n = await backend.it.entitlements.expire(limit);
        return sum;
      };
      await expire(1);
      assert.deepEqual(await statuses(), ['EXPIRED', 'EXPIRED', 'ACTIVE']);
      await grant(temporary(accesses[0]!, 2));
      const [before, after] = await of(accesses[0]!);
      assert.ok(after!.startsAt > before!.endsAt!, 'access after a gap begins now');
    });

    it('gives a title to the entitlements that have an older one, part by part', async () => {
      const access = await freshAccess();
      const users = times(5, () => ({ ...access, userId: freshUser() }));
      await grant(...users.map((a) => temporary(a, 2)));
      const titles = async () => [...new Set((await Promise.all(users.map(of))).map(([e]) => e?.contentTitle))];
      const set = async (version: bigint, title: string) => {
        let updated = 0;
        const { contentId } = access;
        for (let afterId: bigint | undefined = 0n; afterId !== undefined; ) {
          const part = await backend.it.entitlements.setTitle({ contentId, version, title }, afterId, 2);
          updated += part.updated;
          afterId = part.lastId;
        }
        return updated;
      };
      assert.equal(await set(3n, 'third'), 5);
      assert.equal(await set(2n, 'second'), 0);
      assert.equal(await set(3n, 'third again'), 0);
      assert.deepEqual(await titles(), ['third']);
      assert.equal(await set(4n, 'fourth'), 5);
      assert.deepEqual(await titles(), ['fourth']);
    });
  });
}
