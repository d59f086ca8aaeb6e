import assert from 'node:assert/strict';
import { Registry } from 'prom-client';
import { ANONYMOUS, formatUserId } from '../../internal/biz/identity.js';
import { InstanceJobUsecase, InstanceReporter, type ReportOutcome } from '../../internal/biz/instance/instance-job.js';
import { type InstanceJob, InstanceLogUsecase } from '../../internal/biz/instance/instance-log.js';
import { PgInstanceLifeRepo } from '../../internal/data/postgres/instance-life.js';
import { PgInstanceLogRepo } from '../../internal/data/postgres/instance-log.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import {
  SimulatedProvisioner,
  type SimulatorOptions,
  simulatedFate,
} from '../../internal/data/postgres/provisioner-simulator.js';
import { RabbitConsumer } from '../../internal/data/rabbitmq/consumer.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import { deadLetterQueue, type RabbitOptions } from '../../internal/data/rabbitmq/rabbitmq.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { InstanceConsumer } from '../../internal/server/instance-consumer.js';
import { InstanceWorker } from '../../internal/server/instance-worker.js';
import { InstanceEventService } from '../../internal/service/instance-event.js';
import { latch } from '../contract/backend.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { instanceMessage, instanceOrder, openPostgres } from '../support/instances.js';
import { queueDepth } from '../support/queues.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const logger = new SilentLogger();
const OPTIONS = { maxAttempts: 3, retryBackoffMs: 10, leaseMs: 30_000 };
const RELIABLE: SimulatorOptions = { delayMs: 0, failureRate: 0, transientFailureRate: 0 };

/** Stores reports in memory and returns the configured outcome. */
class FakeReporter extends InstanceReporter {
  readonly taken: { id: bigint; status: string; reason: string }[] = [];
  outcome: (job: InstanceJob) => ReportOutcome = () => ({ kind: 'taken' });

  override async report(jobs: readonly InstanceJob[]): Promise<readonly ReportOutcome[]> {
    return jobs.map((job) => {
      const outcome = this.outcome(job);
      if (outcome.kind === 'taken') this.taken.push({ id: job.instanceId, status: job.status, reason: job.reason });
      return outcome;
    });
  }
}

describe('resource domain', () => {
  const servers = useServers('postgres', 'rabbitmq');
  const closing: (() => Promise<unknown>)[] = [];
  let db: Postgres;
  let rabbit: RabbitOptions;
  let publisher: RabbitPublisher;
  let reporter: FakeReporter;
  const { signal } = new AbortController();

  before(async () => {
    db = openPostgres(servers.postgresUrl, 'kaimai_resource');
    const queue = servers.queue('resource.instance.created');
    servers.queue(deadLetterQueue(queue));
    rabbit = { url: servers.rabbitmqUrl, queue, queueType: 'classic', applicationName: 'test' };
    publisher = new RabbitPublisher({ ...rabbit, confirmTimeoutMs: 5_000 }, logger);
    await publisher.open();
    await eventually('the publisher is connected', () => publisher.ping().then(() => true));
  });
  beforeEach(async () => {
    await db.pool.query('DELETE FROM instance_logs');
    await db.pool.query('DELETE FROM simulated_instances');
    await db.pool.query('DELETE FROM resource_dead_letters');
    reporter = new FakeReporter();
  });
  afterEach(async () => {
    for (const close of closing.splice(0).reverse()) await close();
  });
  after(async () => {
    await publisher.close();
    await db.close();
  });

  interface Parts {
    readonly on?: Postgres;
    readonly simulator?: Partial<SimulatorOptions>;
    readonly leaseMs?: number;
    /** Default: a simulator with the options above. */
    readonly provisioner?: SimulatedProvisioner;
  }

  function jobsOf({ on = db, simulator = {}, leaseMs = OPTIONS.leaseMs, provisioner }: Parts = {}): InstanceJobUsecase {
    const used = provisioner ?? new SimulatedProvisioner(on, { ...RELIABLE, ...simulator });
    return new InstanceJobUsecase(new PgInstanceLogRepo(on), used, reporter, { ...OPTIONS, leaseMs }, logger);
  }

  async function createNext(jobs: InstanceJobUsecase): Promise<void> {
    const job = await jobs.claimCreation();
    assert.ok(job);
    assert.deepEqual(await jobs.create(job, signal), { kind: 'created' });
  }

  function startWorker(parts: Parts = {}): InstanceWorker {
    const worker = new InstanceWorker(jobsOf(parts), { concurrency: 8, pollIntervalMs: 20 }, logger, new Metrics());
    closing.push(() => worker.stop(AbortSignal.timeout(5_000)));
    void worker.start();
    return worker;
  }

  function startConsumer(on = db, onStored: () => void = () => {}): InstanceConsumer {
    const events = new InstanceEventService(
      new InstanceLogUsecase(new PgInstanceLogRepo(on), new PgInstanceLifeRepo(on), logger),
    );
    const queue = new RabbitConsumer({ ...rabbit, prefetch: 16 }, logger);
    const consumer = new InstanceConsumer(queue, events, logger, new Registry(), onStored);
    closing.push(() => consumer.stop(AbortSignal.timeout(5_000)));
    void consumer.start();
    return consumer;
  }

  async function send(...payloads: Uint8Array[]): Promise<void> {
    const outcomes = await publisher.publish(
      payloads.map((payload, i) => ({ messageId: `test-${i}`, payload, headers: undefined })),
    );
    assert.ok(outcomes.every((o) => o.kind === 'published'));
  }

  const ids = (n: number) => Array.from({ length: n }, (_, i) => BigInt(i + 1));
  const record = (...orders: Parameters<PgInstanceLogRepo['insert']>[0]) => new PgInstanceLogRepo(db).insert(orders);

  async function rowsOf<Row>(sql: string): Promise<Row[]> {
    return (await db.pool.query(sql)).rows as Row[];
  }
  const count = async (from: string) => (await rowsOf<{ n: number }>(`SELECT count(*)::int AS n FROM ${from}`))[0]!.n;
  const deadReasons = async () =>
    (await rowsOf<{ reason: string }>('SELECT reason FROM resource_dead_letters')).map((r) => r.reason).sort();

  /** Every log is settled and reported, and SUCCESS ⇔ one instance with the same labels. */
  async function auditDone(logs: number): Promise<void> {
    assert.equal(await count('instance_logs'), logs);
    assert.equal(await count(`instance_logs WHERE status = 'PROCESSING' OR reported_at IS NULL`), 0);
    const mismatches = await rowsOf(
      `SELECT * FROM (SELECT * FROM instance_logs WHERE status = 'SUCCESS') l FULL JOIN simulated_instances s
         ON (l.instance_id, l.name, l.user_id, l.product_id, l.cpus, l.memory_mb, l.gpu, l.image)
          = (s.instance_id, s.name, s.user_id, s.product_id, s.cpus, s.memory_mb, s.gpu, s.image)
       WHERE l.id IS NULL OR s.name IS NULL`,
    );
    assert.deepEqual(mismatches, []);
  }
  const done = () => count('instance_logs WHERE reported_at IS NULL').then((n) => n === 0);

  describe('messages', () => {
    it('creates one log and one instance for a message, however often it is delivered', async () => {
      const worker = startWorker();
      startConsumer(db, () => worker.wake());
      startConsumer(db, () => worker.wake());
      const messages = ids(100).map((id) => instanceMessage(instanceOrder(id)));
      await send(...messages, ...messages, ...messages);
      await eventually('all are stored', async () => (await count('instance_logs')) === 100);
      await eventually('all are reported', done);
      await auditDone(100);
      assert.equal(new Set(reporter.taken.map((r) => r.id)).size, 100);
      await eventually('the queue is empty', queueIsEmpty);
      assert.deepEqual(await deadReasons(), []);
    });

    it('stores unreadable messages with the reason, and handles the others', async () => {
      startConsumer();
      const good = instanceOrder(7n);
      await send(
        Buffer.from('certainly not protobuf'),
        Buffer.from(''),
        instanceMessage(good, { eventType: 'INSTANCE_DELETED' }),
        instanceMessage(good, { spec: undefined }),
        instanceMessage(good, { userId: 'no-uuid' }),
        instanceMessage(good, { source: 'A_SOURCE_LONGER_THAN_ITS_COLUMN' }),
        instanceMessage(good, { sourceId: 'x'.repeat(65) }),
        instanceMessage(good, { sourceId: 'nul\0' }),
        instanceMessage(good, { instanceId: -7n, productId: 0n, name: 'inst--7' }),
        instanceMessage(good, { spec: { cpus: 0, memoryMb: -1, gpu: -1, image: 'x'.repeat(256) } }),
        instanceMessage(good),
      );
      await eventually('the valid message is stored', async () => (await count('instance_logs')) === 1);
      const reasons = await eventually('the others are dead letters', async () => {
        const stored = await deadReasons();
        return stored.length === 10 && stored;
      });
      await eventually('the queue is empty', queueIsEmpty);
      const unreadable = /^not an instance\.v1\.Event: /;
      assert.equal(reasons.filter((r) => unreadable.test(r)).length, 1);
      assert.deepEqual(
        reasons.filter((r) => !unreadable.test(r)),
        [
          'event_type must be INSTANCE_CREATED or INSTANCE_REMOVED, not ""',
          'event_type must be INSTANCE_CREATED or INSTANCE_REMOVED, not "INSTANCE_DELETED"',
          'instance_id must be above 0; product_id must be above 0',
          'source must be 1 to 20 of A-Z, 0-9 and _, starting with a letter',
          'source_id must have 1 to 64 characters',
          'source_id must have 1 to 64 characters',
          'spec is missing',
          'spec.cpus must be above 0; spec.memory_mb must be above 0; spec.gpu must not be below 0; spec.image must have 1 to 255 characters',
          'user_id must be a UUID or a decimal int64',
        ],
      );
      const [first] = await rowsOf<{ queue: string; payload: Buffer }>(
        "SELECT queue, payload FROM resource_dead_letters WHERE reason LIKE 'not an instance.v1.Event%'",
      );
      assert.equal(first!.queue, rabbit.queue);
      assert.equal(first!.payload.toString(), 'certainly not protobuf');
    });

    it('rejects messages that are too large to the dead-letter queue', async () => {
      startConsumer();
      await send(Buffer.alloc(70_000), instanceMessage(instanceOrder(1n)));
      await eventually('the valid message is stored', async () => (await count('instance_logs')) === 1);
      const dead = deadLetterQueue(rabbit.queue);
      await eventually(
        'the large message is in the dead-letter queue',
        async () => (await queueDepth(rabbit.url, dead)) === 1,
      );
      assert.deepEqual(await deadReasons(), []);
    });

    it('stores messages that differ from an earlier request as dead letters and changes nothing', async () => {
      const order = instanceOrder(1n);
      await record(order);
      const [log] = await record(order);
      startConsumer();
      await send(
        instanceMessage(order),
        instanceMessage({ ...order, userId: formatUserId('666') }),
        instanceMessage({ ...order, size: { ...order.size, cpus: 64 } }),
        instanceMessage(instanceOrder(2n, { sourceId: order.sourceId })),
        instanceMessage({ ...order, sourceId: 'another' }),
      );
      await eventually('all four are dead letters', async () => (await deadReasons()).length === 4);
      assert.deepEqual(await deadReasons(), [
        'differs from the earlier request: instance_id 1 → 2, order_id 1000001 → 1000002, name inst-1 → inst-2',
        'differs from the earlier request: source_id 1 → another',
        'differs from the earlier request: spec.cpus 4 → 64',
        `differs from the earlier request: user_id ${order.userId} → ${formatUserId('666')}`,
      ]);
      assert.deepEqual(await record(order), [log]);
      assert.equal(await count('instance_logs'), 1);
    });

    it('creates instances for any source, product and user', async () => {
      startWorker();
      startConsumer();
      await send(
        instanceMessage(instanceOrder(1n, { source: 'SECKILL', sourceId: '1234567890-0' })),
        instanceMessage(instanceOrder(2n, { source: 'SECKILL', sourceId: '1234567890-0', productId: 999_999n })),
        instanceMessage(instanceOrder(3n, { source: 'ACTIVITY', sourceId: 'ACT123456', orderId: undefined })),
        instanceMessage(instanceOrder(4n), { userId: '123' }),
      );
      await eventually('all are stored', async () => (await count('instance_logs')) === 4);
      await eventually('all are reported', done);
      await auditDone(4);
    });

    it('leaves messages in the queue while the database is unavailable, without redelivering them', async () => {
      const proxy = await FaultProxy.open(servers.postgresUrl);
      closing.push(() => proxy.close());
      const far = openPostgres(proxy.url(servers.postgresUrl), 'kaimai_resource');
      closing.push(() => far.close());
      proxy.refuse = true;
      startConsumer(far);
      await send(...ids(40).map((id) => instanceMessage(instanceOrder(id))));
      await eventually('the database was tried', () => proxy.refused > 3);
      assert.equal(await count('instance_logs'), 0);
      proxy.refuse = false;
      await eventually('all are stored', async () => (await count('instance_logs')) === 40);
      await eventually('the queue is empty', queueIsEmpty);
      assert.deepEqual(await deadReasons(), []);
    });

    const queueIsEmpty = async () => (await queueDepth(rabbit.url, rabbit.queue)) === 0;
  });

  describe('jobs', () => {
    it('creates each instance once when several workers share the jobs', async () => {
      await record(...ids(300).map((id) => instanceOrder(id)));
      startWorker();
      startWorker();
      startWorker();
      await eventually('all are reported', done);
      await auditDone(300);
      assert.equal(reporter.taken.length, 300);
    });

    it('reports a permanent failure as FAILED and leaves no instance', async () => {
      await record(...ids(50).map((id) => instanceOrder(id)));
      startWorker({ simulator: { failureRate: 0.5 } });
      await eventually('all are reported', done);
      await auditDone(50);
      const failed = ids(50).filter(
        (id) => simulatedFate(id, 0, { failureRate: 0.5, transientFailureRate: 0 }) === 'failed',
      );
      assert.ok(failed.length > 10 && failed.length < 40);
      assert.deepEqual(
        reporter.taken
          .filter((r) => r.status === 'FAILED')
          .map((r) => r.id)
          .sort((a, b) => Number(a - b)),
        failed,
      );
      assert.match(reporter.taken.find((r) => r.status === 'FAILED')!.reason, /configured to fail this instance/);
    });

    it('retries transient failures and gives up after the last attempt', async () => {
      await record(...ids(60).map((id) => instanceOrder(id)));
      const rates = { failureRate: 0, transientFailureRate: 0.6 };
      startWorker({ simulator: rates });
      await eventually('all are reported', done);
      await auditDone(60);
      const lost = ids(60).filter((id) => [0, 1, 2].every((attempt) => simulatedFate(id, attempt, rates) === 'retry'));
      assert.ok(lost.length > 0 && lost.length < 60);
      assert.equal(await count(`instance_logs WHERE status = 'FAILED'`), lost.length);
      assert.match(
        reporter.taken.find((r) => r.id === lost[0])!.reason,
        /^gave up after 3 attempts: the simulator is configured to fail this attempt$/,
      );
    });

    it('completes the jobs of a worker that died before, during or after the creation', async () => {
      await record(instanceOrder(1n), instanceOrder(2n), instanceOrder(3n));
      const repo = new PgInstanceLogRepo(db);
      const provisioner = new SimulatedProvisioner(db, RELIABLE);
      // Job 1: claimed only. Job 2: created as well. Job 3: settled as well, but not reported.
      for (let i = 1; i <= 3; i++) {
        const job = await repo.claimToCreate(60_000);
        assert.ok(job);
        if (i > 1) await provisioner.create(job);
        if (i > 2) await repo.settle({ job, status: 'SUCCESS', reason: '', address: '' });
      }
      // The leases of the dead worker end.
      await db.pool.query('UPDATE instance_logs SET next_attempt_at = now()');
      startWorker();
      await eventually('all are reported', done);
      await auditDone(3);
      assert.deepEqual(reporter.taken.map((r) => r.id).sort(), [1n, 2n, 3n]);
    });

    it('reports the result that a dead worker had kept, once its lease is over', async () => {
      await record(instanceOrder(1n));
      await createNext(jobsOf());
      const other = jobsOf();
      assert.equal(await other.claimReports(10), undefined);
      await db.pool.query('UPDATE instance_logs SET next_attempt_at = now()');
      assert.equal(await other.report((await other.claimReports(10))!), undefined);
      await auditDone(1);
    });

    it('gives up kept results when a worker stops, so that another one claims them at once', async () => {
      await record(instanceOrder(1n), instanceOrder(2n));
      const stopped = jobsOf();
      await createNext(stopped);
      await createNext(stopped);
      await stopped.leaveReports();
      assert.equal((await jobsOf().claimReports(10))?.length, 2);
    });

    it('keeps the lease of a job while it runs, however long that takes', async () => {
      await record(...ids(3).map((id) => instanceOrder(id)));
      // Longer than a machine with other work may hold up a renewal.
      const slow = { leaseMs: 3_000, simulator: { delayMs: 3_500 } };
      startWorker(slow);
      startWorker(slow);
      await eventually('all are reported', done);
      await auditDone(3);
      assert.equal(await count('instance_logs WHERE attempts > 0'), 0);
    });

    it('creates nothing once the lease of a job is over', async () => {
      await record(instanceOrder(1n));
      const job = await new PgInstanceLogRepo(db).claimToCreate(0);
      const outcome = await new SimulatedProvisioner(db, RELIABLE).create(job!);
      assert.equal(outcome.kind, 'retry');
      assert.equal(await count('simulated_instances'), 0);
    });

    it('does not let a worker fail a job that another worker has claimed since', async () => {
      await record(instanceOrder(1n));
      const repo = new PgInstanceLogRepo(db);
      const slow = await repo.claimToCreate(0);
      const next = await repo.claimToCreate(60_000);
      assert.ok(slow && next);
      assert.equal(await repo.settle({ job: slow, status: 'FAILED', reason: 'gave up', address: '' }), 'PROCESSING');
      assert.equal((await new SimulatedProvisioner(db, RELIABLE).create(next)).kind, 'running');
      assert.equal(await repo.settle({ job: next, status: 'SUCCESS', reason: '', address: '' }), 'SUCCESS');
      await jobsOf().report((await repo.claimToReport(10, 1_000))!);
      await auditDone(1);
      assert.deepEqual(reporter.taken, [{ id: 1n, status: 'SUCCESS', reason: '' }]);
    });

    it('removes an instance whose job the next holder of the lease has given up', async () => {
      await record(instanceOrder(1n));
      const repo = new PgInstanceLogRepo(db);
      const givenUp = latch();
      class Held extends SimulatedProvisioner {
        override async create(job: InstanceJob) {
          await givenUp.opened;
          return super.create(job);
        }
      }
      const jobs = jobsOf({ provisioner: new Held(db, RELIABLE) });
      const job = await jobs.claimCreation();
      assert.ok(job);
      const round = jobs.create(job, signal);
      await db.pool.query('UPDATE instance_logs SET next_attempt_at = now()');
      const next = await repo.claimToCreate(60_000);
      assert.ok(next);
      assert.equal(await repo.settle({ job: next, status: 'FAILED', reason: 'given up', address: '' }), 'FAILED');
      givenUp.open();
      assert.deepEqual(await round, { kind: 'taken' });
      assert.equal(await count('simulated_instances'), 0);
      assert.equal(await jobs.report((await jobs.claimReports(10))!), undefined);
      await auditDone(1);
      assert.deepEqual(reporter.taken, [{ id: 1n, status: 'FAILED', reason: 'given up' }]);
    });

    it('fails a job if another instance has the name, and leaves that instance alone', async () => {
      await db.pool.query(
        `INSERT INTO simulated_instances VALUES ('inst-1', 1, '${formatUserId('9')}', 1001, 1, 1024, 0, 'other')`,
      );
      await record(instanceOrder(1n));
      startWorker();
      await eventually('it is reported', done);
      assert.deepEqual(reporter.taken, [
        { id: 1n, status: 'FAILED', reason: 'the name inst-1 is taken by another instance' },
      ]);
      assert.equal(await count(`simulated_instances WHERE image = 'other'`), 1);
    });

    it('repeats a report until it is accepted', async () => {
      await record(...ids(5).map((id) => instanceOrder(id)));
      let refusals = 0;
      reporter.outcome = (job) => {
        refusals++;
        return job.instanceId === 1n && job.reportAttempts < 3
          ? { kind: 'retry', reason: 'INTERNAL: stumbled' }
          : refusals < 20
            ? { kind: 'unavailable', reason: 'UNAVAILABLE: away' }
            : { kind: 'taken' };
      };
      startWorker();
      await eventually('all are reported', done);
      await auditDone(5);
      assert.equal(reporter.taken.length, 5);
      assert.deepEqual(await rowsOf('SELECT report_attempts, report_error FROM instance_logs WHERE instance_id = 1'), [
        { report_attempts: 3, report_error: '' },
      ]);
    });

    it('stops repeating a report that is refused for good and records the reason', async () => {
      await record(instanceOrder(1n));
      reporter.outcome = () => ({ kind: 'refused', reason: 'INSTANCE_REQUEST_NOT_FOUND: no instance request 1' });
      startWorker();
      await eventually('the report is settled', done);
      assert.deepEqual(await rowsOf('SELECT status, report_error FROM instance_logs'), [
        { status: 'SUCCESS', report_error: 'INSTANCE_REQUEST_NOT_FOUND: no instance request 1' },
      ]);
    });

    it('waits while the database is unavailable, without counting attempts', async () => {
      const proxy = await FaultProxy.open(servers.postgresUrl);
      closing.push(() => proxy.close());
      const far = openPostgres(proxy.url(servers.postgresUrl), 'kaimai_resource');
      closing.push(() => far.close());
      await record(...ids(30).map((id) => instanceOrder(id)));
      // An attempt whose lease ends meanwhile would count.
      startWorker({ on: far, leaseMs: 2_000, simulator: { delayMs: 20 } });
      await eventually('a creation has begun', () => reporter.taken.length > 0);
      proxy.refuse = true;
      proxy.reset();
      await eventually('the database was tried', () => proxy.refused > 3);
      proxy.refuse = false;
      await eventually('all are reported', done);
      await auditDone(30);
      assert.equal(await count(`instance_logs WHERE attempts > 0`), 0);
    });
  });

  describe('logs', () => {
    const logs = () => new InstanceLogUsecase(new PgInstanceLogRepo(db), new PgInstanceLifeRepo(db), logger);
    const alice = formatUserId('1');
    const bob = formatUserId('2');

    beforeEach(async () => {
      for (const [id, userId, source] of [
        [1n, alice, 'SECKILL'],
        [2n, bob, 'SECKILL'],
        [3n, alice, 'ORDER'],
        [4n, alice, 'ACTIVITY'],
      ] as const) {
        await record(instanceOrder(id, { userId, source }));
      }
      await createNext(jobsOf({ simulator: { failureRate: 0 } }));
      await db.pool.query(`UPDATE instance_logs SET status = 'FAILED', reason = 'no room' WHERE instance_id = 2`);
    });

    const list = async (
      userId: string | undefined,
      role: 'USER' | 'ADMIN',
      filter = {},
      page = { offset: 0, limit: 0 },
    ) => {
      const { items, total } = await logs().list({ role, userId }, filter, page);
      return [items.map((l) => l.instanceId), total];
    };

    it('lists logs newest first, to a user only their own', async () => {
      assert.deepEqual(await list(alice, 'USER'), [[4n, 3n, 1n], 3n]);
      assert.deepEqual(await list(bob, 'USER'), [[2n], 1n]);
      assert.deepEqual(await list(undefined, 'ADMIN'), [[4n, 3n, 2n, 1n], 4n]);
      assert.deepEqual(await list(alice, 'USER', {}, { offset: 1, limit: 1 }), [[3n], 3n]);
      const anonymous = await logs().list(ANONYMOUS, {}, { offset: 0, limit: 10 });
      assert.equal(anonymous.total, 0n);
    });

    it('finds logs by source, product, instance and status', async () => {
      assert.deepEqual(await list(undefined, 'ADMIN', { source: 'SECKILL' }), [[2n, 1n], 2n]);
      assert.deepEqual(await list(undefined, 'ADMIN', { source: 'ORDER', sourceIds: ['3', 'ORD3'] }), [[3n], 1n]);
      assert.deepEqual(await list(undefined, 'ADMIN', { instanceId: 2n, status: 'FAILED' }), [[2n], 1n]);
      assert.deepEqual(await list(undefined, 'ADMIN', { productId: 5n }), [[], 0n]);
      assert.deepEqual(await list(bob, 'USER', { instanceId: 1n }), [[], 0n]);
    });

    it('counts logs by source and by minute', async () => {
      const { bySource, byMinute } = await logs().stats(undefined);
      assert.deepEqual(bySource, [
        { source: 'ACTIVITY', total: 1n, success: 0n, failed: 0n, processing: 1n, successRate: 0 },
        { source: 'ORDER', total: 1n, success: 0n, failed: 0n, processing: 1n, successRate: 0 },
        { source: 'SECKILL', total: 2n, success: 1n, failed: 1n, processing: 0n, successRate: 50 },
      ]);
      assert.equal(
        byMinute.reduce((sum, m) => sum + m.count, 0n),
        4n,
      );
      const future = await logs().stats(new Date(Date.now() + 3_600_000));
      assert.deepEqual(future, { bySource: [], byMinute: [] });
    });
  });

  describe('roles', () => {
    const denied = (on: Postgres, sql: string) => assert.rejects(on.pool.query(sql), { code: '42501' }, sql);

    it('lets neither domain write the tables of the other', async () => {
      const product = openPostgres(servers.postgresUrl, 'kaimai_product');
      closing.push(() => product.close());
      for (const table of [
        'product_specs',
        'products',
        'orders',
        'instance_requests',
        'outbox',
        'sales',
        'stream_inbox',
      ]) {
        await denied(db, `DELETE FROM ${table}`);
        await denied(db, `INSERT INTO ${table} DEFAULT VALUES`);
      }
      await denied(db, `UPDATE orders SET status = 3`);
      await denied(db, `SELECT * FROM outbox`);
      for (const table of ['instance_logs', 'simulated_instances', 'resource_dead_letters']) {
        await denied(product, `DELETE FROM ${table}`);
        await denied(product, `INSERT INTO ${table} DEFAULT VALUES`);
        await product.pool.query(`SELECT * FROM ${table}`);
      }
      await denied(product, `UPDATE instance_logs SET status = 'SUCCESS'`);
      await db.pool.query('SELECT * FROM products JOIN product_specs ON true JOIN orders ON true');
    });
  });
});
