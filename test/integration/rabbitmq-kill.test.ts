import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { OutboxUsecase, PublishingHandler } from '../../internal/biz/outbox.js';
import { PgOutboxRepo } from '../../internal/data/postgres/outbox.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RabbitConsumer } from '../../internal/data/rabbitmq/consumer.js';
import { RabbitPublisher } from '../../internal/data/rabbitmq/publisher.js';
import type { RabbitOptions } from '../../internal/data/rabbitmq/rabbitmq.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { OutboxRelay } from '../../internal/server/outbox-relay.js';
import { openPostgres } from '../support/instances.js';
import { KillableRabbitmq } from '../support/killable-rabbitmq.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const TOPIC = 'instance.created';
const ROWS = 20_000;
const DEFINITION_MS = 4_000;
const logger = new SilentLogger();

describe('RabbitMQ killed in the middle of publishing', function () {
  this.timeout(300_000);
  const servers = useServers('postgres');
  let broker: KillableRabbitmq;
  let db: Postgres;

  before(async function () {
    // This test kills its own broker. One that is given by URL or runs in a container must not be killed.
    if (!KillableRabbitmq.available) this.skip();
    broker = new KillableRabbitmq();
    await broker.start();
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
  });
  after(async () => {
    await db?.close();
    await broker?.close();
  });

  it('loses no message that the relay has marked, and the relay continues after the restart', async () => {
    await db.pool.query(
      `INSERT INTO outbox (topic, ref_id, payload)
       SELECT $1, i, convert_to(i::text, 'UTF8') FROM generate_series(1, ${ROWS}) i`,
      [TOPIC],
    );
    const rabbit: RabbitOptions = { url: broker.url, queue: 'killed', queueType: 'classic', applicationName: 'test' };
    const publisher = new RabbitPublisher({ ...rabbit, confirmTimeoutMs: 5_000 }, logger);
    await publisher.open();
    // RabbitMQ writes the definition of a queue to disk up to two seconds after it has confirmed it (disk_log of Erlang). A
    // queue that is killed before that is gone with all its messages.
    await sleep(DEFINITION_MS);
    const outbox = new OutboxUsecase(new PgOutboxRepo(db), [new PublishingHandler(TOPIC, publisher)], {
      batchSize: 200,
      leaseMs: 2_000,
    });
    const relay = new OutboxRelay(outbox, { pollIntervalMs: 50 }, logger, new Registry());
    await relay.start();

    await eventually('some are published', async () => (await waiting()) < ROWS - 1_000, { everyMs: 5 });
    broker.kill();
    const left = await eventually('the relay has noticed', async () => {
      const { rows } = await db.pool.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM outbox WHERE last_error IS NOT NULL`,
      );
      return rows[0]!.n > 0 && (await waiting());
    });
    assert.ok(left > 0, 'the broker was killed too late to show anything');
    await broker.start();
    await eventually('all are published', async () => (await waiting()) === 0, { timeoutMs: 120_000 });

    const seen = new Map<string, number>();
    const consumer = new RabbitConsumer({ ...rabbit, prefetch: 500 }, logger);
    consumer.start(async (deliveries) => {
      for (const d of deliveries) {
        const text = Buffer.from(d.payload).toString();
        seen.set(text, (seen.get(text) ?? 0) + 1);
      }
      return deliveries.map(() => 'accept');
    });
    await eventually('every row has arrived', () => seen.size === ROWS);
    const stop = AbortSignal.timeout(10_000);
    await Promise.all([consumer.stop(stop), relay.stop(stop)]);
    await publisher.close();
  });

  async function waiting(): Promise<number> {
    const { rows } = await db.pool.query('SELECT count(*)::int AS n FROM outbox WHERE published_at IS NULL');
    return rows[0].n;
  }
});
