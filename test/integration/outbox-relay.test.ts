import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { type OutgoingMessage, type PublishOutcome, QueuePublisher } from '../../internal/biz/message-queue.js';
import {
  type DispatchFailure,
  type DispatchResult,
  OutboxHandler,
  type OutboxRow,
  OutboxUsecase,
  PublishingHandler,
} from '../../internal/biz/outbox.js';
import { PgOutboxRepo } from '../../internal/data/postgres/outbox.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { OutboxRelay } from '../../internal/server/outbox-relay.js';
import { latch } from '../contract/backend.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const TOPIC = 'instance.created';
const OPTIONS = { batchSize: 50, leaseMs: 10_000 };
const logger = new SilentLogger();

/** Stores messages in memory and returns the configured outcome. */
class FakePublisher extends QueuePublisher {
  readonly published: string[] = [];
  outcome: (message: OutgoingMessage) => PublishOutcome = () => ({ kind: 'published' });

  override async publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    return messages.map((message) => {
      const outcome = this.outcome(message);
      if (outcome.kind === 'published') this.published.push(Buffer.from(message.payload).toString());
      return outcome;
    });
  }
}

class Recorder extends OutboxHandler {
  override readonly topic = 'seckill.return';
  readonly refs: bigint[] = [];
  until: Promise<void> = Promise.resolve();
  override async dispatch(rows: readonly OutboxRow[]): Promise<readonly (DispatchFailure | undefined)[]> {
    await this.until;
    this.refs.push(...rows.map((r) => r.refId));
    return rows.map(() => undefined);
  }
}

describe('outbox relay', () => {
  const servers = useServers('postgres');
  const closing: (() => Promise<unknown>)[] = [];
  let db: Postgres;
  let publisher: FakePublisher;

  before(() => {
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
  });
  beforeEach(async () => {
    await db.pool.query('DELETE FROM outbox');
    publisher = new FakePublisher();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  after(() => db.close());

  const usecase = (changes: Partial<typeof OPTIONS> = {}, on = db) =>
    new OutboxUsecase(new PgOutboxRepo(on), [new PublishingHandler(TOPIC, publisher)], { ...OPTIONS, ...changes });

  function startRelay(outbox = usecase()): OutboxRelay {
    const relay = new OutboxRelay(outbox, { pollIntervalMs: 20 }, logger, new Registry());
    closing.push(() => relay.stop(AbortSignal.timeout(5_000)));
    void relay.start();
    return relay;
  }

  it('publishes each row once and marks it', async () => {
    await addRows(TOPIC, 120);
    startRelay();
    await eventually('all are marked', async () => (await waiting()) === 0);
    assert.deepEqual([...publisher.published].sort(), names(120).sort());
    const { rows } = await db.pool.query(
      'SELECT attempts, last_error FROM outbox WHERE published_at IS NULL OR attempts <> 1',
    );
    assert.deepEqual(rows, []);
  });

  it('publishes rows that are added later, also one with a lower id that commits late', async () => {
    startRelay();
    const late = await db.pool.connect();
    await late.query('BEGIN');
    await late.query(`INSERT INTO outbox (topic, ref_id, payload) VALUES ($1, 1, 'late')`, [TOPIC]);
    await addRows(TOPIC, 3);
    await eventually('the committed rows are published', () => publisher.published.length === 3);
    await late.query('COMMIT');
    late.release();
    await eventually('the late row is published', () => publisher.published.length === 4);
    assert.equal(publisher.published[3], 'late');
  });

  it('publishes each row once when several relays share them', async () => {
    await addRows(TOPIC, 2_000);
    for (let i = 0; i < 3; i++) startRelay();
    await eventually('all are marked', async () => (await waiting()) === 0);
    assert.equal(publisher.published.length, 2_000);
    assert.equal(new Set(publisher.published).size, 2_000);
  });

  it('keeps unconfirmed rows with the reason, and publishes them when the broker is available again', async () => {
    await addRows(TOPIC, 5);
    publisher.outcome = () => ({ kind: 'unconfirmed', reason: 'not connected' });
    startRelay();
    await eventually('the rows have the reason', async () => {
      const { rows } = await db.pool.query('SELECT DISTINCT last_error FROM outbox');
      return rows.length === 1 && rows[0].last_error === 'unconfirmed: not connected';
    });
    assert.equal(await waiting(), 5);
    publisher.outcome = () => ({ kind: 'published' });
    await eventually('all are marked', async () => (await waiting()) === 0);
    assert.equal(publisher.published.length, 5);
    const { rows } = await db.pool.query('SELECT DISTINCT last_error FROM outbox');
    assert.deepEqual(rows, [{ last_error: null }]);
  });

  it('publishes the other rows while a failed row waits', async () => {
    await addRows(TOPIC, 3);
    // After so many attempts a failed row waits longer than this test takes.
    await db.pool.query('UPDATE outbox SET attempts = 20');
    publisher.outcome = (m) =>
      Buffer.from(m.payload).toString() === 'row 0' ? { kind: 'returned', reason: 'NO_ROUTE' } : { kind: 'published' };
    const outbox = usecase();
    assert.deepEqual(await dispatchNext(outbox), {
      published: 2,
      failed: 1,
      isolated: 0,
      reason: 'returned: NO_ROUTE',
    });
    assert.equal(await dispatchNext(outbox), undefined);
    const { rows } = await db.pool.query(
      `SELECT attempts, last_error, next_attempt_at > now() AS waits FROM outbox WHERE published_at IS NULL`,
    );
    assert.deepEqual(rows, [{ attempts: 21, last_error: 'returned: NO_ROUTE', waits: true }]);
    publisher.outcome = () => ({ kind: 'published' });
    await makeDue();
    assert.equal((await dispatchNext(outbox))?.published, 1);
  });

  it('publishes the rows of a dead relay once their lease is over', async () => {
    await addRows(TOPIC, 3);
    const repo = new PgOutboxRepo(db);
    assert.equal((await repo.claim(TOPIC, 10, 60_000)).length, 3);
    const outbox = usecase();
    assert.equal(await dispatchNext(outbox), undefined);
    await makeDue();
    assert.equal((await dispatchNext(outbox))?.published, 3);
  });

  it('keeps the lease of rows while it waits for their destination', async () => {
    await addRows('seckill.return', 3);
    const slow = new Recorder();
    const dispatched = latch();
    slow.until = dispatched.opened;
    const busy = new OutboxUsecase(new PgOutboxRepo(db), [slow], { ...OPTIONS, leaseMs: 300 });
    const dispatching = busy.dispatch((await busy.claim('seckill.return'))!);
    const leaseEnd = async () => {
      const { rows } = await db.pool.query<{ at: Date }>('SELECT min(next_attempt_at) AS at FROM outbox');
      return rows[0]!.at.getTime();
    };
    // What a lease keeps others from is tested above, with one that does not end on a slow machine.
    const before = await leaseEnd();
    await eventually('the lease was renewed twice', async () => (await leaseEnd()) > before + 200);
    dispatched.open();
    assert.equal((await dispatching).published, 3);
  });

  it('does not let a relay whose lease is over release rows that another relay has claimed', async () => {
    await addRows(TOPIC, 1);
    const repo = new PgOutboxRepo(db);
    const [slow] = await repo.claim(TOPIC, 1, 0);
    const [fast] = await repo.claim(TOPIC, 1, 60_000);
    await repo.markFailed([{ row: slow!, reason: 'too late', retryAfterMs: 0 }]);
    assert.deepEqual(await repo.claim(TOPIC, 1, 0), []);
    await repo.markPublished([fast!]);
    assert.equal(await waiting(), 0);
  });

  it('publishes one topic while another one is stalled', async () => {
    await addRows(TOPIC, 3);
    await addRows('seckill.return', 3);
    publisher.outcome = () => ({ kind: 'nacked' });
    const recorder = new Recorder();
    const handlers = [new PublishingHandler(TOPIC, publisher), recorder];
    startRelay(new OutboxUsecase(new PgOutboxRepo(db), handlers, OPTIONS));
    await eventually('the rows of the other topic are published', async () => (await waiting()) === 3);
    // Two lanes may share the rows, in any order.
    assert.deepEqual(recorder.refs.map(Number).sort(), [0, 1, 2]);
  });

  it('records the reason on rows of a topic without a handler and leaves them waiting', async () => {
    await addRows('from.the.future', 2);
    await addRows(TOPIC, 2);
    startRelay();
    await eventually('the rows have the reason', async () => {
      const { rows } = await db.pool.query(
        `SELECT topic, count(*)::int AS n FROM outbox WHERE last_error IS NOT NULL GROUP BY 1`,
      );
      return rows[0]?.topic === 'from.the.future' && rows[0].n === 2;
    });
    await eventually('the others are published', async () => (await waiting()) === 2);
    assert.equal(publisher.published.length, 2);
  });

  it('continues after the database was unavailable', async () => {
    await addRows(TOPIC, 3);
    const proxy = await FaultProxy.open(servers.postgresUrl);
    closing.push(() => proxy.close());
    const far = openPostgres(proxy.url(servers.postgresUrl), 'kaimai_product');
    closing.push(() => far.close());
    proxy.refuse = true;
    startRelay(usecase({}, far));
    await eventually('the relay has tried the database', () => proxy.refused > 2);
    proxy.refuse = false;
    await eventually('all are marked', async () => (await waiting()) === 0);
  });

  it('finishes the current round when it stops, so that no row stays leased', async () => {
    await addRows(TOPIC, 200);
    const relay = startRelay();
    await eventually('the first row is published', () => publisher.published.length > 0);
    await relay.stop(AbortSignal.timeout(5_000));
    const { rows } = await db.pool.query(
      'SELECT count(*)::int AS leased FROM outbox WHERE published_at IS NULL AND next_attempt_at > now()',
    );
    assert.deepEqual(rows, [{ leased: 0 }]);
    assert.equal(200 - (await waiting()), publisher.published.length);
  });

  async function dispatchNext(outbox: OutboxUsecase): Promise<DispatchResult | undefined> {
    const batch = await outbox.claim(TOPIC);
    return batch && outbox.dispatch(batch);
  }

  const names = (n: number) => Array.from({ length: n }, (_, i) => `row ${i}`);

  async function addRows(topic: string, n: number): Promise<void> {
    await db.pool.query(
      `INSERT INTO outbox (topic, ref_id, payload)
       SELECT $1, i, convert_to('row ' || i, 'UTF8') FROM generate_series(0, $2::int - 1) i`,
      [topic, n],
    );
  }

  /** Ends the leases and the waits of all rows. */
  async function makeDue(): Promise<void> {
    await db.pool.query('UPDATE outbox SET next_attempt_at = now()');
  }

  async function waiting(): Promise<number> {
    const { rows } = await db.pool.query('SELECT count(*)::int AS n FROM outbox WHERE published_at IS NULL');
    return rows[0].n;
  }
});
