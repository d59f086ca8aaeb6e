import assert from 'node:assert/strict';
import pg from 'pg';
import { Registry } from 'prom-client';
import { formatUserId } from '../../internal/biz/identity.js';
import { instanceName } from '../../internal/biz/instance/instance.js';
import { InstanceResendUsecase } from '../../internal/biz/instance/instance-resend.js';
import { type OutgoingMessage, type PublishOutcome, QueuePublisher } from '../../internal/biz/message-queue.js';
import { OutboxUsecase, PublishingHandler } from '../../internal/biz/outbox.js';
import { PgInstanceRepo, TOPIC_INSTANCE_CREATED } from '../../internal/data/postgres/instance.js';
import { PgOutboxRepo } from '../../internal/data/postgres/outbox.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { OutboxRelay } from '../../internal/server/outbox-relay.js';
import { openPostgres } from '../support/instances.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const SPEC = { id: 1n, cpu: 1, memoryGb: 1, gpu: 0, image: 'i', config: undefined, createdAt: new Date(0) };

/** A broker that confirms every message and may then lose it. */
class LossyPublisher extends QueuePublisher {
  readonly payloads: string[] = [];

  override async publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    return messages.map(({ payload }) => {
      this.payloads.push(Buffer.from(payload).toString('hex'));
      return { kind: 'published' };
    });
  }
}

describe('a lost instance request', () => {
  const servers = useServers('postgres');
  let db: Postgres;
  let owner: pg.Client;
  let publisher: LossyPublisher;
  let relay: OutboxRelay;
  let repo: PgInstanceRepo;
  let resender: InstanceResendUsecase;
  before(async () => {
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    owner = new pg.Client({ connectionString: servers.postgresUrl });
    await owner.connect();
    repo = new PgInstanceRepo(db);
  });
  beforeEach(async () => {
    await db.pool.query('DELETE FROM outbox');
    await db.pool.query('DELETE FROM instance_requests');
    publisher = new LossyPublisher();
    resender = new InstanceResendUsecase(repo, { afterMs: 120_000 });
    const handlers = [new PublishingHandler(TOPIC_INSTANCE_CREATED, publisher)];
    const outbox = new OutboxUsecase(new PgOutboxRepo(db), handlers, { batchSize: 50, leaseMs: 10_000 });
    relay = new OutboxRelay(outbox, { pollIntervalMs: 20 }, new SilentLogger(), new Registry());
    await relay.start();
  });
  afterEach(() => relay.stop(AbortSignal.timeout(5_000)));
  after(async () => {
    await owner.end();
    await db.close();
  });

  const published = (n: number) =>
    eventually(`${n} messages are published and marked`, async () => {
      const { rows } = await db.pool.query('SELECT count(*)::int AS n FROM outbox WHERE published_at IS NULL');
      return publisher.payloads.length === n && rows[0].n === 0;
    });
  /** Requests an instance 3 minutes ago, and loses its message. */
  const lose = async (instanceId: bigint) => {
    const event = {
      ...{ instanceId, productId: 1n, userId: formatUserId('1'), source: 'ORDER', sourceId: String(instanceId) },
      ...{ name: instanceName(instanceId), spec: SPEC, at: new Date(), orderId: undefined },
    };
    const before = publisher.payloads.length;
    await db.run((tx) => repo.insertRequests(tx, [event]));
    await published(before + 1);
    await db.pool.query("UPDATE instance_requests SET created_at = created_at - interval '3 minutes'");
    await db.pool.query(
      "UPDATE outbox SET created_at = created_at - interval '3 minutes', published_at = published_at - interval '3 minutes'",
    );
  };

  it('is published again with the same payload', async () => {
    await lose(7n);
    assert.equal(await resender.resendLost(), 1);
    await published(2);
    assert.equal(publisher.payloads[1], publisher.payloads[0]);
    assert.equal(await resender.resendLost(), 0);
  });

  it('is not published again once the resource domain has stored it', async () => {
    await lose(8n);
    await owner.query(`INSERT INTO instance_logs (instance_id, product_id, user_id, source, source_id)
      SELECT instance_id, product_id, user_id, source, source_id FROM instance_requests`);
    assert.equal(await resender.resendLost(), 0);
  });

  it('is not published again once the resource domain has made it a dead letter', async () => {
    await lose(9n);
    await owner.query(`INSERT INTO resource_dead_letters (queue, message_id, payload, reason)
      SELECT 'q', encode(sha256(payload), 'hex'), payload, '' FROM outbox`);
    assert.equal(await resender.resendLost(), 0);
  });
});
