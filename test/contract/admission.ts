import assert from 'node:assert/strict';
import type { Admission, AdmissionLoad, PurchaseRequest } from '../../internal/biz/seckill/admission.js';
import type { PurchaseStream, SettledEntry, StockCorrection } from '../../internal/biz/seckill/purchase-stream.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { homeSegment } from '../../internal/biz/seckill/segment.js';
import { RedisAdmission } from '../../internal/data/redis/admission.js';
import { RedisPurchaseConsumer } from '../../internal/data/redis/purchase-consumer.js';
import { RedisPurchaseStream } from '../../internal/data/redis/purchase-stream.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import { MemoryAdmission, MemoryPurchaseStream } from '../support/memory/admission.js';
import { MemoryRedis } from '../support/memory/redis.js';
import { openSale } from '../support/memory/settlement.js';
import { freshId, freshUser } from './backend.js';

/** One implementation of admission, with the stream that it writes to. */
export interface AdmissionBackend {
  readonly admission: Admission;
  readonly stream: PurchaseStream;
  finish(itemId: bigint, entries: readonly SettledEntry[]): Promise<ReadonlySet<string>>;
  /** Adds an entry as a foreign client does. */
  add(itemId: bigint, fields: Readonly<Record<string, string>>): Promise<string>;
  close(): void;
}

export async function memoryAdmissionBackend(): Promise<AdmissionBackend> {
  const redis = new MemoryRedis();
  const stream = new MemoryPurchaseStream(redis);
  return {
    admission: new MemoryAdmission(redis),
    stream,
    finish: (itemId, entries) => stream.finish(itemId, entries),
    add: async (itemId, fields) => redis.add(itemId, new Map(Object.entries(fields))),
    close: () => {},
  };
}

export async function redisAdmissionBackend(place: RedisPlace): Promise<AdmissionBackend> {
  const server = new RedisServer({ ...place, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
  await server.ready(5_000);
  const consumer = new RedisPurchaseConsumer(server, async () => 'contract');
  return {
    admission: new RedisAdmission(server),
    stream: new RedisPurchaseStream(server),
    finish: (itemId, entries) => consumer.finish(itemId, entries),
    add: (itemId, fields) =>
      server.commands.xadd(server.keys.sale(itemId).stream, '*', ...Object.entries(fields).flat()) as Promise<string>,
    close: () => server.close(),
  };
}

/** @param segments of each sale: the contract is the same for any number */
export function admissionContract(name: string, open: () => Promise<AdmissionBackend>, segments = 1): void {
  describe(`Admission ${name}`, () => {
    let backend: AdmissionBackend;
    before(async () => {
      backend = await open();
    });
    after(() => backend?.close());

    const newSale = (changes: Partial<Sale> = {}): Sale =>
      openSale({
        id: freshId(),
        itemId: freshId(),
        total: 5n,
        defaultLimit: 3,
        orderType: 'GOODS',
        segments,
        ...changes,
      });
    const load = async (sale: Sale, changes: Partial<AdmissionLoad> = {}) => {
      const lease = (await backend.admission.leaseLoad(sale.itemId, segments))!;
      await lease.suspend();
      const counted = Array.from({ length: segments }, () => ({ from: '0-0', to: '0-0' }));
      const state = { sale, stock: sale.total, counted, buyers: new Map(), vipLimits: [] };
      const loaded = await lease.load({ ...state, backlogLimit: 100, ...changes });
      await lease.release();
      return loaded;
    };
    const loaded = async (changes: Partial<Sale> = {}, state: Partial<AdmissionLoad> = {}): Promise<Sale> => {
      const sale = newSale(changes);
      assert.equal(await load(sale, state), 'LOADED');
      return sale;
    };
    const buy = (sale: Sale, userId: string, quantity = 1, more: Partial<PurchaseRequest> = {}) =>
      backend.admission.admit(sale, { userId, quantity, requestId: '', traceparent: '', ...more });
    const queued = async (sale: Sale, userId: string, quantity = 1) => {
      const result = await buy(sale, userId, quantity);
      assert.equal(result.kind, 'QUEUED');
      return (result as { streamId: string }).streamId;
    };
    const stockOf = async ({ itemId }: Sale) => (await backend.admission.state(itemId, segments)).loaded?.stock;
    const unitsOf = async ({ itemId }: Sale, userId: string) =>
      (await backend.admission.unitsOf(itemId, [userId], segments)).get(userId);
    const returnOne = async ({ itemId, epoch }: Sale, userId: string) => {
      const units = { returnId: freshId(), itemId, userId, quantity: 1, epoch, segments };
      assert.equal(await backend.admission.returnUnits(units), true);
    };
    /** One whose home is the segment that `add` adds entries to. */
    const userOfSegment0 = () => {
      for (;;) {
        const userId = freshUser();
        if (homeSegment(userId, segments) === 0) return userId;
      }
    };
    const finish = (sale: Sale, streamId: string, correction?: Partial<StockCorrection> & { userId: string }) =>
      backend.finish(sale.itemId, [
        {
          streamId,
          uid: correction?.userId ?? '',
          correction: correction && {
            ...{ epoch: sale.epoch, entryEpoch: undefined, quantity: 1, outcome: 'ORDER', ...correction },
          },
        },
      ]);

    it('admits until the stock or the user’s limit is used up, and writes an entry for each purchase', async () => {
      const sale = await loaded();
      const [a, b] = [freshUser(), freshUser()];
      const streamId = await queued(sale, a, 2);
      assert.equal((await buy(sale, a, 2)).kind, 'LIMIT_REACHED');
      await queued(sale, b, 3);
      assert.equal((await buy(sale, a, 1)).kind, 'SOLD_OUT');
      assert.equal(await stockOf(sale), 0n);
      assert.equal(await unitsOf(sale, a), 2);
      const entries = await backend.stream.waiting(sale.itemId, segments);
      const fieldsOf = (names: readonly string[]) => entries.map(({ fields }) => names.map((name) => fields.get(name)));
      const expected = [
        [a, '2', '1'],
        [b, '3', '1'],
      ];
      assert.deepEqual(new Set(fieldsOf(['uid', 'qty', 'epoch'])), new Set(expected));
      const reqIds = fieldsOf(['req_id']).map(([id]) => BigInt(id ?? 0));
      assert.equal(new Set(reqIds).size, 2);
      assert.ok(reqIds.every((id) => id >> 32n === 1n));
      const found = await backend.stream.find(sale.itemId, streamId);
      assert.equal(found?.fields.get('uid'), a);
      assert.deepEqual(
        entries.find((e) => e.streamId === streamId),
        found,
      );
      assert.deepEqual(await backend.stream.oldest(sale.itemId, segments), entries[0]);
    });

    it('answers a repeated request id or token with the first purchase, also after the end', async () => {
      const sale = await loaded();
      const [a, b] = [freshUser(), freshUser()];
      const first = await buy(sale, a, 1, { requestId: 'r', tokenId: 't' });
      assert.deepEqual(await buy(sale, a, 1, { requestId: 'r' }), first);
      assert.deepEqual(await buy(sale, a, 1, { tokenId: 't' }), first);
      assert.notDeepEqual(await buy(sale, b, 1, { requestId: 'r' }), first);
      assert.equal(await stockOf(sale), 3n);
      await backend.admission.close(sale);
      const asked = [a, b].map((userId) => ({ userId, quantity: 1, requestId: 'r', traceparent: '' }));
      const found = await backend.admission.findAdmitted(
        sale.itemId,
        [...asked, { ...asked[0]!, requestId: 'other' }],
        segments,
      );
      assert.deepEqual([found[0], found[2]], [first, { kind: 'ENDED' }]);
    });

    it('judges the window by its own clock', async () => {
      const soon = await loaded({ startsAt: new Date(Date.now() + 60_000) });
      const over = await loaded({ endsAt: new Date(Date.now() - 1_000) });
      assert.equal((await buy(soon, freshUser())).kind, 'NOT_STARTED');
      assert.equal((await buy(over, freshUser())).kind, 'ENDED');
    });

    it('admits no more than the backlog allows', async () => {
      const sale = await loaded({}, { backlogLimit: 1 });
      // One user, because each segment has its part of the limit.
      const userId = freshUser();
      const streamId = await queued(sale, userId);
      assert.equal((await buy(sale, userId)).kind, 'BACKLOG_FULL');
      await finish(sale, streamId);
      await queued(sale, userId);
    });

    it('does nothing under another epoch, or where nothing is loaded', async () => {
      const sale = await loaded({ epoch: 4n });
      for (const other of [{ ...sale, epoch: 3n }, { ...sale, epoch: 5n }, newSale()]) {
        assert.equal((await buy(other, freshUser())).kind, 'STALE');
      }
      assert.equal(await stockOf(sale), 5n);
    });

    it('replaces what is loaded by what a later epoch brings', async () => {
      const sale = await loaded({ epoch: 4n });
      const user = freshUser();
      await queued(sale, user);
      assert.equal(await load({ ...sale, epoch: 5n }, { stock: 2n, buyers: new Map([[user, 3]]) }), 'LOADED');
      assert.equal(await stockOf(sale), 2n);
      assert.equal(await unitsOf(sale, user), 3);
      assert.equal((await buy({ ...sale, epoch: 5n }, user)).kind, 'LIMIT_REACHED');
    });

    it('opens nothing after a close, until a later epoch is loaded', async () => {
      const sale = newSale({ epoch: 4n });
      await backend.admission.close(sale);
      assert.equal(await load(sale), 'CLOSED');
      assert.equal(await load({ ...sale, epoch: 3n }), 'STALE');
      assert.equal((await backend.admission.state(sale.itemId, segments)).closedEpoch, 4n);
      assert.equal(await load({ ...sale, epoch: 5n }), 'LOADED');
      await backend.admission.close(sale);
      assert.equal(await stockOf(sale), 5n);
    });

    it('lets one caller at a time load, and stops admission meanwhile', async () => {
      const sale = await loaded();
      const lease = (await backend.admission.leaseLoad(sale.itemId, segments))!;
      assert.equal(await backend.admission.leaseLoad(sale.itemId, segments), undefined);
      await queued(sale, freshUser());
      await lease.suspend();
      assert.equal((await buy(sale, freshUser())).kind, 'STALE');
      await lease.release();
      assert.notEqual(await backend.admission.leaseLoad(sale.itemId, segments), undefined);
    });

    it('changes settings from the version that the caller found', async () => {
      const sale = await loaded();
      const [a, b] = [freshUser(), freshUser()];
      const endsAt = new Date(Date.now() + 60_000);
      const change = {
        from: 1n,
        to: 2n,
        total: 7n,
        endsAt,
        defaultLimit: 1,
        admitRate: 7,
        vipLimits: [{ userId: a, units: 2 }],
      };
      assert.equal(await backend.admission.configure(sale, change), true);
      assert.equal(await backend.admission.configure(sale, change), false);
      assert.equal(await backend.admission.configure({ ...sale, epoch: 2n }, { ...change, from: 2n }), false);
      const { loaded: now } = await backend.admission.state(sale.itemId, segments);
      assert.deepEqual([now?.settingsVersion, now?.defaultLimit, now?.admitRate], [2n, 1, 7]);
      assert.deepEqual([now?.total, now?.stock, now?.endsAt], [7n, 7n, endsAt]);
      assert.deepEqual([(await buy(sale, a, 2)).kind, (await buy(sale, b, 2)).kind], ['QUEUED', 'LIMIT_REACHED']);
    });

    it('lowers the total by units that are left, once', async () => {
      const sale = await loaded();
      await queued(sale, freshUser(), 2);
      assert.deepEqual(await backend.admission.withdraw(sale, 1n), { kind: 'SHORT', stock: 3n });
      assert.deepEqual(await backend.admission.withdraw({ ...sale, settingsVersion: 2n }, 4n), { kind: 'OTHER' });
      for (let i = 0; i < 2; i++) assert.deepEqual(await backend.admission.withdraw(sale, 4n), { kind: 'WITHDRAWN' });
      const { loaded: now } = await backend.admission.state(sale.itemId, segments);
      assert.deepEqual([now?.total, now?.stock], [4n, 2n]);
    });

    it('takes the units of each cancelled order back once, and only in its epoch', async () => {
      const sale = await loaded({ epoch: 4n });
      const [userId, returnId] = [freshUser(), freshId()];
      await queued(sale, userId, 2);
      const units = { returnId, itemId: sale.itemId, userId, quantity: 2, epoch: 4n, segments };
      assert.equal(await backend.admission.returnUnits({ ...units, epoch: 5n }), false);
      assert.equal(await backend.admission.returnUnits({ ...units, epoch: 3n }), true);
      assert.equal(await stockOf(sale), 3n);
      assert.equal(await backend.admission.returnUnits(units), true);
      assert.equal(await backend.admission.returnUnits(units), true);
      assert.equal(await stockOf(sale), 5n);
      assert.equal(await unitsOf(sale, userId), 0);
      assert.deepEqual([...(await backend.admission.findReturned(sale.itemId, [returnId, 1n], segments))], [returnId]);
      assert.deepEqual([...(await backend.admission.sampleBuyers(sale.itemId, 5, segments))], []);
    });

    it('gives back once what a refused entry held', async () => {
      const sale = await loaded();
      const userId = freshUser();
      const streamId = await queued(sale, userId, 2);
      const refused = { userId, entryEpoch: 1n, quantity: 2, outcome: 'REFUSED' } as const;
      for (let i = 0; i < 2; i++) await finish(sale, streamId, refused);
      assert.equal(await stockOf(sale), 5n);
      assert.equal(await unitsOf(sale, userId), 0);
      assert.deepEqual(await backend.stream.waiting(sale.itemId, segments), []);
    });

    it('takes the units of a foreign entry’s order once, also below 0', async () => {
      const sale = await loaded({ total: 1n });
      const [buyer, foreigner] = [freshUser(), freshUser()];
      const admitted = await queued(sale, buyer);
      const streamId = await backend.add(sale.itemId, { uid: foreigner, qty: '2' });
      for (let i = 0; i < 2; i++) await finish(sale, streamId, { userId: foreigner, quantity: 2 });
      assert.equal(await stockOf(sale), -2n);
      assert.equal(await unitsOf(sale, foreigner), 2);
      assert.equal((await buy(sale, freshUser())).kind, 'SOLD_OUT');
      await finish(sale, admitted, { userId: buyer, entryEpoch: 1n, outcome: 'REFUSED' });
      assert.equal(await stockOf(sale), -1n);
    });

    it('counts no unit of a foreign entry’s order that was cancelled before the entry was finished', async () => {
      const sale = await loaded({ defaultLimit: 1 });
      const userId = userOfSegment0();
      const streamId = await backend.add(sale.itemId, { uid: userId });
      await returnOne(sale, userId);
      assert.equal(await unitsOf(sale, userId), -1);
      await finish(sale, streamId, { userId });
      assert.deepEqual([await unitsOf(sale, userId), await stockOf(sale)], [0, 5n]);
      assert.deepEqual([...(await backend.admission.sampleBuyers(sale.itemId, 5, segments))], []);
      await queued(sale, userId);
      assert.equal((await buy(sale, userId)).kind, 'LIMIT_REACHED');
    });

    it('counts a user’s units whatever happens between the return of an order’s units and the finish of its entry', async () => {
      const sale = await loaded({ defaultLimit: 1 });
      const userId = userOfSegment0();
      const streamId = await backend.add(sale.itemId, { uid: userId });
      await returnOne(sale, userId);
      const admitted = await queued(sale, userId);
      assert.equal(await unitsOf(sale, userId), 0);
      await finish(sale, admitted, { userId, entryEpoch: sale.epoch, outcome: 'REFUSED' });
      assert.equal(await unitsOf(sale, userId), -1);
      await finish(sale, streamId, { userId });
      assert.deepEqual([await unitsOf(sale, userId), await stockOf(sale)], [0, 5n]);
    });

    it('takes an entry that a load counted as waiting for one that holds units', async () => {
      const sale = newSale({ epoch: 4n });
      const [a, b] = [freshUser(), freshUser()];
      const first = await backend.add(sale.itemId, { uid: a });
      const second = await backend.add(sale.itemId, { uid: b });
      await load(sale, { stock: 4n, counted: [{ from: first, to: first }], buyers: new Map([[a, 1]]) });
      await finish(sale, first, { userId: a });
      assert.equal(await stockOf(sale), 4n);
      await finish(sale, second, { userId: b });
      assert.equal(await stockOf(sale), 3n);
    });

    it('keeps an entry whose epoch is not loaded yet, and corrects nothing of an older epoch', async () => {
      const sale = newSale({ epoch: 4n });
      const userId = freshUser();
      const streamId = await backend.add(sale.itemId, { uid: userId });
      assert.deepEqual([...(await finish(sale, streamId, { userId }))], [streamId]);
      assert.equal((await backend.stream.waiting(sale.itemId, segments)).length, 1);
      await load({ ...sale, epoch: 5n });
      assert.deepEqual([...(await finish(sale, streamId, { userId }))], []);
      assert.equal((await backend.stream.waiting(sale.itemId, segments)).length, 0);
      assert.equal(await stockOf(sale), 5n);
    });

    it('leaves the entry of another user with the same id in the stream', async () => {
      const sale = await loaded();
      const [a, b] = [freshUser(), freshUser()];
      const streamId = await queued(sale, a);
      await finish(sale, streamId, { userId: b });
      assert.equal((await backend.stream.waiting(sale.itemId, segments)).length, 1);
      assert.equal(await stockOf(sale), 3n);
      await finish(sale, streamId, { userId: a, entryEpoch: 1n, outcome: 'REFUSED' });
      assert.equal((await backend.stream.waiting(sale.itemId, segments)).length, 0);
      assert.equal(await stockOf(sale), 4n);
    });

    it('reads a stream that is longer than one page, each entry once and in order', async () => {
      const sale = newSale();
      const ids = await Promise.all(Array.from({ length: 5_001 }, () => backend.add(sale.itemId, { uid: '1' })));
      const entries = await backend.stream.waiting(sale.itemId, segments);
      assert.deepEqual(
        entries.map((e) => e.streamId),
        ids,
      );
    });

    it('tells what is left of a sale, and whether all of it was counted', async () => {
      const sale = await loaded();
      const left = async (epoch = sale.epoch) => {
        const { units, complete } = await backend.admission.unitsLeft({ itemId: sale.itemId, epoch, segments });
        return [units, complete];
      };
      assert.deepEqual(await left(), [5n, true]);
      await queued(sale, freshUser(), 3);
      assert.deepEqual(await left(), [2n, true]);
      assert.deepEqual(await left(sale.epoch + 1n), [0n, false]);
      await queued(sale, freshUser(), 2);
      assert.deepEqual(await left(), [0n, true]);
      await backend.admission.close({ itemId: sale.itemId, epoch: sale.epoch, segments });
      assert.deepEqual(await left(), [0n, false]);
    });

    it('marks each change of a sale', async () => {
      const sale = await loaded();
      const mark = async () => (await backend.admission.state(sale.itemId, segments)).mark;
      const before = await mark();
      assert.equal(await mark(), before);
      await queued(sale, freshUser());
      assert.notEqual(await mark(), before);
    });
  });
}
