import assert from 'node:assert/strict';
import { unavailable } from '../../gen/common/v1/errors.js';
import {
  type DispatchFailure,
  type OutboxFailure,
  OutboxHandler,
  OutboxRepo,
  type OutboxRow,
  OutboxUsecase,
} from './outbox.js';

const TOPIC = 'test';

class FakeOutboxRepo extends OutboxRepo {
  readonly published: bigint[] = [];
  readonly renewed: bigint[] = [];
  readonly failures: OutboxFailure[] = [];

  override async claim(): Promise<readonly OutboxRow[]> {
    return [];
  }
  override async claimOthers(): Promise<readonly OutboxRow[]> {
    return [];
  }
  override async renew(rows: readonly OutboxRow[]): Promise<void> {
    this.renewed.push(...rows.map((row) => row.id));
  }
  override async markPublished(rows: readonly OutboxRow[]): Promise<void> {
    this.published.push(...rows.map((row) => row.id));
  }
  override async markFailed(failures: readonly OutboxFailure[]): Promise<void> {
    this.failures.push(...failures);
  }
}

class FakeHandler extends OutboxHandler {
  override readonly topic = TOPIC;
  readonly batches: number[] = [];
  /** Returns the failure of a row, or throws to fail the whole call. */
  judge: (row: OutboxRow) => DispatchFailure | undefined = () => undefined;

  override async dispatch(rows: readonly OutboxRow[]): Promise<readonly (DispatchFailure | undefined)[]> {
    this.batches.push(rows.length);
    return rows.map((row) => this.judge(row));
  }
}

describe('OutboxUsecase', () => {
  let repo: FakeOutboxRepo;
  let handler: FakeHandler;
  const rowOf = (id: bigint, attempts = 1): OutboxRow => ({
    ...{ id, topic: TOPIC, refId: id, payload: new Uint8Array(), headers: undefined, attempts },
  });
  const dispatch = (...rows: readonly OutboxRow[]) => {
    return new OutboxUsecase(repo, [handler], { batchSize: 10, leaseMs: 1_000 }).dispatch({
      topic: TOPIC,
      rows,
      full: false,
    });
  };
  const waits = () => repo.failures.map((f) => [f.row.id, f.retryAfterMs]);
  beforeEach(() => {
    repo = new FakeOutboxRepo();
    handler = new FakeHandler();
  });

  it('keeps all rows first, however often they failed, while the destination is unavailable', async () => {
    handler.judge = () => ({ reason: 'down', scope: 'destination' });
    assert.deepEqual(await dispatch(rowOf(1n), rowOf(2n, 9)), {
      ...{ published: 0, failed: 2, isolated: 0, reason: 'down' },
    });
    assert.deepEqual(waits(), [
      [1n, 0],
      [2n, 0],
    ]);
  });

  it('backs off, longer with each attempt, from a row that failed while others were published', async () => {
    handler.judge = (row) => (row.id === 2n ? undefined : { reason: 'down', scope: 'destination' });
    assert.equal((await dispatch(rowOf(1n, 1), rowOf(2n), rowOf(3n, 3), rowOf(4n, 30))).isolated, 0);
    assert.deepEqual(repo.published, [2n]);
    assert.deepEqual(waits(), [
      [1n, 200],
      [3n, 800],
      [4n, 60_000],
    ]);
  });

  it('backs off from a row that fails on its own even if nothing else was published', async () => {
    handler.judge = () => ({ reason: 'unreadable', scope: 'row' });
    assert.deepEqual(await dispatch(rowOf(1n, 2)), {
      ...{ published: 0, failed: 1, isolated: 1, reason: 'unreadable' },
    });
    assert.deepEqual(waits(), [[1n, 400]]);
  });

  it('publishes the other rows when one row makes the handler throw', async () => {
    handler.judge = (row) => {
      if (row.id === 2n) throw new Error('unreadable');
      return undefined;
    };
    assert.deepEqual(await dispatch(rowOf(1n), rowOf(2n), rowOf(3n)), {
      ...{ published: 2, failed: 1, isolated: 1, reason: 'unreadable' },
    });
    assert.deepEqual(repo.published, [1n, 3n]);
    assert.deepEqual(waits(), [[2n, 200]]);
  });

  it('does not try the rows one by one when the handler says that the destination is unavailable', async () => {
    handler.judge = () => {
      throw unavailable('down');
    };
    assert.equal((await dispatch(rowOf(1n), rowOf(2n))).isolated, 0);
    assert.deepEqual(handler.batches, [2]);
    assert.deepEqual(waits(), [
      [1n, 0],
      [2n, 0],
    ]);
  });
});
