import assert from 'node:assert/strict';
import type { Transaction, TransactionRunner } from '../transaction.js';
import { type ExpiredPage, RetentionLease, RetentionStore, RetentionUsecase } from './retention.js';

describe('RetentionUsecase', () => {
  it('looks for at most 250 ms in a step, and goes on from there in the next', async () => {
    let nowMs = 0;
    const looked: (string | undefined)[] = [];
    class EndlessStore extends RetentionStore {
      override readonly kind = 'outbox';
      override async find(_keepMs: number, from: string | undefined): Promise<ExpiredPage> {
        looked.push(from);
        nowMs += 125;
        return { rows: [], next: String(looked.length) };
      }
      override async delete(): Promise<number> {
        return 0;
      }
    }
    class OwnLease extends RetentionLease {
      override async take(): Promise<boolean> {
        return true;
      }
      override async renew(): Promise<boolean> {
        return true;
      }
      override async release(): Promise<void> {}
    }
    const transactions = { run: (work: (tx: Transaction) => Promise<unknown>) => work({} as Transaction) };
    const keepMs = { outbox: 1, inbox: 1, order_events: 1, dead_letters: 1, guest_carts: 1, orders: 1 };
    const retention = new RetentionUsecase(
      transactions as TransactionRunner,
      new OwnLease(),
      [new EndlessStore()],
      { intervalMs: 1, batchSize: 1, keepMs },
      () => nowMs,
    );
    assert.deepEqual(await retention.step(), { kind: 'outbox', deleted: 0, failures: [] });
    assert.deepEqual(looked, [undefined, '1']);
    await retention.step();
    assert.deepEqual(looked, [undefined, '1', '2', '3']);
  });
});
