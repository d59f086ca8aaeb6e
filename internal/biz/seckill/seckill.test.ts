import assert from 'node:assert/strict';
import { isUnavailable, unavailable } from '../../../gen/common/v1/errors.js';
import { isPurchaseNotFound, isSaleUnavailable, saleUnavailable } from '../../../gen/seckill/v1/errors.js';
import { openSale } from '../../../test/support/memory/settlement.js';
import { formatUserId } from '../identity.js';
import type { Admission, AdmissionResult, PurchaseRequest } from './admission.js';
import { PurchaseStream, reusedStreamId, type StreamEntry } from './purchase-stream.js';
import { SaleCache } from './sale-cache.js';
import type { SaleSummary } from './sale-state.js';
import { SeckillUsecase } from './seckill.js';
import type { SettlementOutcome, SettlementRepo } from './settlement-state.js';

const ITEM = 1001n;
const [ALICE, BOB] = [formatUserId('1'), formatUserId('2')];
const STREAM_ID = `${Date.now()}-0`;
const SECKILL_ID = `${ITEM}-${STREAM_ID}`;

class Stream extends PurchaseStream {
  entry: StreamEntry | undefined;
  findFails: Error | undefined;
  questions = 0;
  /** Called with each question whether lost entries may be in memory. */
  inMemory: () => boolean = () => false;

  override async find() {
    if (this.findFails) throw this.findFails;
    return this.entry;
  }
  override async oldest() {
    return this.entry;
  }
  override async waiting() {
    return [];
  }
  override async mayBeInMemory() {
    this.questions += 1;
    return this.inMemory();
  }
}

describe('SeckillUsecase.getPurchase', () => {
  let stream: Stream;
  let outcomes: Map<string, SettlementOutcome>;
  const get = (userId: string, seckillId = SECKILL_ID) => {
    const settlements = { find: async (_: bigint, streamId: string) => outcomes.get(streamId) };
    const unused = undefined as never;
    const usecase = new SeckillUsecase(unused, unused, stream, settlements as unknown as SettlementRepo, unused);
    return usecase.getPurchase(seckillId, userId);
  };
  const outcome = (streamId: string, userId: string, orderId: bigint) => {
    const order = { id: orderId, status: 'PAID', closeReason: '' } as const;
    const row = {
      kind: 'ORDER',
      userId,
      quantity: 1,
      orderId,
      reason: '',
      saleId: undefined,
      epoch: undefined,
    } as const;
    outcomes.set(streamId, { streamId, ...row, order });
  };
  const entry = (userId: string) => ({ streamId: STREAM_ID, fields: new Map([['uid', userId]]) });

  beforeEach(() => {
    stream = new Stream();
    outcomes = new Map();
  });

  it('answers NOT_KNOWN_YET while a consumer may have the lost purchase in memory', async () => {
    stream.inMemory = () => true;
    const { status, quantity, orderId } = await get(ALICE);
    assert.deepEqual([status, quantity, orderId], ['NOT_KNOWN_YET', 0, undefined]);
  });

  it('answers PURCHASE_NOT_FOUND once no consumer can have the purchase in memory', async () => {
    await assert.rejects(get(ALICE), isPurchaseNotFound);
    assert.equal(stream.questions, 1);
  });

  it('finds an outcome that was committed just before the consumers had nothing left in memory', async () => {
    stream.inMemory = () => {
      outcome(STREAM_ID, ALICE, 7n);
      return false;
    };
    assert.deepEqual([(await get(ALICE)).status, (await get(ALICE)).orderId], ['PAID', 7n]);
  });

  it('answers PURCHASE_NOT_FOUND for an id that is older than a day without asking for it', async () => {
    stream.inMemory = () => true;
    await assert.rejects(get(ALICE, `${ITEM}-1-1`), isPurchaseNotFound);
    assert.equal(stream.questions, 0);
  });

  it('answers SALE_UNAVAILABLE when Redis cannot say whether a consumer has the purchase', async () => {
    stream.inMemory = () => {
      throw unavailable('planted');
    };
    await assert.rejects(get(ALICE), isSaleUnavailable);
  });

  it('answers SALE_UNAVAILABLE when the stream cannot be read, unless there is an outcome', async () => {
    stream.findFails = unavailable('planted');
    await assert.rejects(get(ALICE), isSaleUnavailable);
    outcome(STREAM_ID, ALICE, 7n);
    assert.equal((await get(ALICE)).status, 'PAID');
  });

  it('answers each of two users whose purchases have one stream id with the own one', async () => {
    outcome(STREAM_ID, ALICE, 7n);
    stream.entry = entry(BOB);
    assert.deepEqual([(await get(ALICE)).orderId, (await get(BOB)).status], [7n, 'QUEUED']);
    outcome(reusedStreamId(STREAM_ID, BOB), BOB, 8n);
    assert.deepEqual([(await get(ALICE)).orderId, (await get(BOB)).orderId], [7n, 8n]);
  });

  it("answers PURCHASE_NOT_FOUND for another user's purchase, waiting or settled", async () => {
    stream.inMemory = () => true;
    stream.entry = entry(BOB);
    await assert.rejects(get(ALICE), isPurchaseNotFound);
    stream.entry = undefined;
    outcome(STREAM_ID, BOB, 8n);
    await assert.rejects(get(ALICE), isPurchaseNotFound);
  });
});

describe('SeckillUsecase.purchaseAll of a sale whose segment of one user has lost it', () => {
  const SALE: SaleSummary = { ...openSale({ id: 1n, itemId: ITEM, total: 2n, segments: 2 }), unpaid: false };
  const LOADED_AGAIN: SaleSummary = { ...SALE, epoch: 2n };
  const request = (userId: string): PurchaseRequest => ({ userId, quantity: 1, requestId: 'r', traceparent: '' });
  const unused = undefined as never;

  /** @param readAgain the sale after the first read of it */
  function usecase(readAgain: () => SaleSummary): SeckillUsecase {
    let reads = 0;
    const sales = new SaleCache({ findCurrent: async () => (reads++ === 0 ? SALE : readAgain()) });
    const admission = {
      admitAll: async (sale: SaleSummary, requests: readonly PurchaseRequest[]): Promise<AdmissionResult[]> => {
        if (sale.epoch !== SALE.epoch) throw saleUnavailable('planted');
        return requests.map(({ userId }) => (userId === BOB ? { kind: 'STALE' } : { kind: 'QUEUED', streamId: '1-1' }));
      },
    };
    return new SeckillUsecase(sales, admission as unknown as Admission, unused, unused, unused);
  }
  const away = () => {
    throw unavailable('planted');
  };

  for (const [when, readAgain] of [
    ['PostgreSQL does not answer', away],
    ['the segment does not answer after the sale was loaded again', () => LOADED_AGAIN],
  ] as const) {
    it(`keeps what the other segment has decided when ${when}`, async () => {
      const outcomes = await usecase(readAgain).purchaseAll(ITEM, [request(BOB), request(ALICE)]);
      assert.deepEqual(
        outcomes.map((o) => (o.kind === 'FAILED' ? o.reason : o.kind)),
        ['SALE_UNAVAILABLE', 'QUEUED'],
      );
    });
  }

  it('fails as a whole when nothing was decided', async () => {
    await assert.rejects(usecase(away).purchaseAll(ITEM, [request(BOB)]), isUnavailable);
    await assert.rejects(usecase(() => LOADED_AGAIN).purchaseAll(ITEM, [request(BOB)]), isSaleUnavailable);
  });
});
