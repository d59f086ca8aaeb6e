import assert from 'node:assert/strict';
import { saleNotFound, saleUnavailable } from '../../gen/seckill/v1/errors.js';
import {
  PurchaseReply_Code as Code,
  type PurchaseStreamReply,
  PurchaseStreamRequest,
  PurchaseStreamRequest_Purchase,
} from '../../gen/seckill/v1/seckill.js';
import type { PurchaseRequest } from '../biz/seckill/admission.js';
import { PurchaseCollector } from '../biz/seckill/purchase-collector.js';
import type { BatchOutcome, SeckillUsecase } from '../biz/seckill/seckill.js';
import { Metrics } from '../kratos/metrics/metrics.js';
import { PurchaseCounts } from './purchase-counts.js';
import { PurchaseSession } from './purchase-session.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Decides nothing until it is told to. Item 404 has no sale, and user 8 has a segment of item 2's sale. */
class Decisions {
  readonly asked: {
    itemId: bigint;
    requests: readonly PurchaseRequest[];
    answer: (o: BatchOutcome[]) => void;
    fail: (err: Error) => void;
  }[] = [];

  purchaseAll(itemId: bigint, requests: readonly PurchaseRequest[]): Promise<readonly BatchOutcome[]> {
    if (itemId === 404n) return Promise.reject(saleNotFound('item 404 has no sale'));
    return new Promise((answer, fail) => this.asked.push({ itemId, requests, answer, fail }));
  }

  homeOf(itemId: bigint, userId: string): number {
    return itemId === 2n && userId.endsWith('8') ? 1 : 0;
  }

  /** Answers the oldest call. @returns the users that it asked for */
  async decide(): Promise<string[]> {
    const { requests, answer } = this.asked.shift()!;
    answer(requests.map((r) => ({ kind: 'QUEUED', seckillId: `1-${r.requestId}` })));
    await turn();
    return requests.map((r) => r.requestId);
  }
}

/** What a caller sends, and what it received. */
class Caller {
  readonly replies: PurchaseStreamReply[] = [];
  readonly decisions = new Decisions();
  readonly ending = new AbortController();
  readonly gone = new AbortController();
  read = 0;
  ended = false;
  private readonly sent: PurchaseStreamRequest[] = [];
  private isDone = false;
  private onSent: (() => void) | undefined;

  constructor(window: number, collector?: PurchaseCollector) {
    const own = collector ?? new PurchaseCollector(this.decisions as unknown as SeckillUsecase);
    const session = new PurchaseSession(window, own, new PurchaseCounts(new Metrics()));
    void this.receive(session.replies(this.requests(), { ending: this.ending.signal, signal: this.gone.signal }));
  }

  send(...purchases: Partial<PurchaseStreamRequest_Purchase>[]): void {
    const filled = purchases.map((p) =>
      PurchaseStreamRequest_Purchase.fromPartial({ itemId: 1n, userId: '7', requestId: String(p.number), ...p }),
    );
    this.sent.push(PurchaseStreamRequest.fromPartial({ purchases: filled }));
    this.onSent?.();
  }

  done(): void {
    this.isDone = true;
    this.onSent?.();
  }

  get numbers(): number[] {
    return this.replies.flatMap((r) => r.results.map((result) => result.number));
  }

  private async *requests(): AsyncGenerator<PurchaseStreamRequest> {
    for (;;) {
      const next = this.sent.shift();
      if (next) {
        this.read++;
        yield next;
      } else if (this.isDone) {
        return;
      } else {
        await new Promise<void>((resolve) => {
          this.onSent = resolve;
        });
      }
    }
  }

  private async receive(replies: AsyncIterable<PurchaseStreamReply>): Promise<void> {
    for await (const reply of replies) this.replies.push(reply);
    this.ended = true;
  }
}

describe('A stream of purchases', () => {
  it('says first how many purchases may be in flight', async () => {
    const caller = new Caller(3);
    await turn();
    assert.deepEqual(caller.replies, [{ results: [], maxInFlight: 3, reconnect: false }]);
  });

  it('answers by number, what is decided together in one message', async () => {
    const caller = new Caller(100);
    caller.send({ number: 5 });
    caller.send({ number: 4 }, { number: 9, itemId: 2n });
    await turn();
    await turn();
    assert.deepEqual(
      caller.decisions.asked.map(({ itemId, requests }) => [itemId, requests.map((r) => r.requestId)]),
      [
        [1n, ['5', '4']],
        [2n, ['9']],
      ],
    );
    await caller.decisions.decide();
    assert.deepEqual(
      caller.replies.at(-1)?.results.map((r) => [r.number, Code[r.code], r.seckillId]),
      [
        [5, 'QUEUED', '1-5'],
        [4, 'QUEUED', '1-4'],
      ],
    );
    await caller.decisions.decide();
    assert.deepEqual(caller.numbers, [5, 4, 9]);
  });

  it('makes the purchases of each segment of a sale by themselves: none waits for another segment', async () => {
    const caller = new Caller(100);
    caller.send({ number: 1, itemId: 2n }, { number: 2, itemId: 2n, userId: '8' }, { number: 3, itemId: 2n });
    await turn();
    await turn();
    const { asked } = caller.decisions;
    assert.deepEqual(
      asked.map(({ requests }) => requests.map((r) => r.requestId)),
      [['1', '3'], ['2']],
    );
    asked.reverse();
    await caller.decisions.decide();
    assert.deepEqual(caller.numbers, [2]);
    await caller.decisions.decide();
    assert.deepEqual(caller.numbers, [2, 1, 3]);
  });

  it('answers the purchases that wait for a segment which does not answer, so that they leave its window to the others', async () => {
    const WINDOW = 1_000;
    const caller = new Caller(WINDOW);
    const [item, user] = [{ itemId: 2n }, { userId: '8' }];
    for (let number = 1; number <= WINDOW; number++) caller.send({ number, ...item, ...user });
    caller.send({ number: WINDOW + 1, ...item });
    const { asked } = caller.decisions;
    await turn();
    await turn();
    // Two calls are under way, the others wait, and the window is full.
    assert.deepEqual([caller.read, asked.length], [WINDOW + 1, 2]);
    asked[0]!.fail(saleUnavailable('the segment does not answer'));
    for (let turns = 0; turns < 10; turns++) await turn();
    assert.equal(caller.numbers.length, WINDOW - asked[1]!.requests.length);
    assert.deepEqual(
      asked[2]?.requests.map((r) => r.requestId),
      [String(WINDOW + 1)],
    );
  });

  it('ends after the caller has ended its side and has every result', async () => {
    const caller = new Caller(100);
    caller.send({ number: 1 });
    caller.done();
    await turn();
    await turn();
    assert.equal(caller.ended, false);
    await caller.decisions.decide();
    assert.deepEqual([caller.ended, caller.numbers], [true, [1]]);
  });

  it('reads nothing more while its window is full, and loses nothing', async () => {
    const caller = new Caller(2);
    for (let number = 1; number <= 5; number++) caller.send({ number });
    await turn();
    await turn();
    // The third was read but is not begun.
    assert.deepEqual([caller.read, caller.decisions.asked.length], [3, 1]);
    assert.deepEqual(await caller.decisions.decide(), ['1', '2']);
    await turn();
    assert.deepEqual(await caller.decisions.decide(), ['3', '4']);
    await turn();
    assert.deepEqual(await caller.decisions.decide(), ['5']);
    assert.deepEqual(caller.numbers, [1, 2, 3, 4, 5]);
  });

  it('keeps its window within a message too', async () => {
    const caller = new Caller(2);
    caller.send({ number: 1 }, { number: 2 }, { number: 3 });
    await turn();
    await turn();
    assert.deepEqual(await caller.decisions.decide(), ['1', '2']);
    await turn();
    assert.deepEqual(await caller.decisions.decide(), ['3']);
  });

  it('refuses a bad purchase with the name of its field, and makes the others', async () => {
    const caller = new Caller(100);
    caller.send(
      { number: 1, itemId: 0n },
      { number: 2, userId: 'x' },
      { number: 3, quantity: 10_001 },
      { number: 4, requestId: 'r'.repeat(65) },
      { number: 5, requestId: 'a\0' },
      { number: 6, itemId: 404n },
      { number: 7 },
    );
    await turn();
    await turn();
    await caller.decisions.decide();
    const told = new Map(caller.replies.flatMap((r) => r.results).map((r) => [r.number, [r.reason, r.message]]));
    assert.deepEqual(
      [1, 2, 3, 4, 5, 6, 7].map((number) => told.get(number)),
      [
        ['INVALID_ARGUMENT', 'item_id must be greater than 0'],
        ['INVALID_ARGUMENT', 'user_id must be a UUID or a decimal int64'],
        ['INVALID_ARGUMENT', 'quantity must be from 1 to 10000'],
        ['INVALID_ARGUMENT', 'request_id must be at most 64 bytes'],
        ['INVALID_ARGUMENT', 'request_id must not contain a NUL character'],
        ['SALE_NOT_FOUND', 'item 404 has no sale'],
        ['', ''],
      ],
    );
  });

  it('passes on a well-formed traceparent and ignores any other', async () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    const caller = new Caller(100);
    caller.send({ number: 1, traceparent }, { number: 2, traceparent: 'x' });
    await turn();
    await turn();
    assert.deepEqual(
      caller.decisions.asked[0]?.requests.map((r) => r.traceparent),
      [traceparent, ''],
    );
  });

  it('does not begin a purchase whose time has passed while it waited', async () => {
    const caller = new Caller(100);
    // Two calls are under way, so that the third waits.
    for (const number of [1, 2]) {
      caller.send({ number });
      await turn();
      await turn();
    }
    caller.send({ number: 3, timeoutMs: 1 }, { number: 4 });
    const sentAtMs = Date.now();
    while (Date.now() < sentAtMs + 2) await turn();
    await caller.decisions.decide();
    assert.deepEqual(await caller.decisions.decide(), ['2']);
    assert.deepEqual(await caller.decisions.decide(), ['4']);
    const late = caller.replies.flatMap((r) => r.results).find((r) => r.number === 3);
    assert.deepEqual([late?.code, late?.reason], [Code.CODE_UNSPECIFIED, 'DEADLINE_EXCEEDED']);
  });

  it('asks to reconnect when it is to end, and ends when everything is answered', async () => {
    const caller = new Caller(100);
    caller.send({ number: 1 });
    await turn();
    await turn();
    caller.ending.abort();
    await turn();
    assert.deepEqual(caller.replies.at(-1), { results: [], maxInFlight: 0, reconnect: true });
    // Sent before the caller knew.
    caller.send({ number: 2 });
    await turn();
    await turn();
    caller.done();
    await caller.decisions.decide();
    assert.equal(caller.ended, false);
    await caller.decisions.decide();
    assert.deepEqual([caller.ended, caller.numbers], [true, [1, 2]]);
  });

  it('ends a moment later although the caller does not close its side', async () => {
    const caller = new Caller(100);
    caller.send({ number: 1 });
    await turn();
    await turn();
    caller.ending.abort();
    await caller.decisions.decide();
    while (!caller.ended) await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(caller.numbers, [1]);
    caller.send({ number: 2 });
    await turn();
    assert.equal(caller.decisions.asked.length, 0);
  });

  it('ends when the caller disconnects', async () => {
    const caller = new Caller(1);
    caller.send({ number: 1 }, { number: 2 });
    await turn();
    await turn();
    caller.gone.abort();
    await turn();
    assert.equal(caller.ended, true);
    await caller.decisions.decide();
    assert.equal(caller.decisions.asked.length, 0);
  });
});
