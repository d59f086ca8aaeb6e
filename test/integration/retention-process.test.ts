import assert from 'node:assert/strict';
import pg from 'pg';
import { Event } from '../../gen/instance/v1/event.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const ROWS = 20_000;

describe('Retention in the processes', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let db: pg.Client;

  before(async () => {
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
  });
  after(() => db.end());

  const one = async (sql: string): Promise<number> =>
    Number((await db.query<{ n: string | null }>(`SELECT (${sql}) AS n`)).rows[0]?.n ?? 0);
  const metric = async (process: TestProcess, name: string): Promise<number> => {
    const text = await (await fetch(`http://${process.metrics}/metrics`)).text();
    const line = text.split('\n').find((l) => l.startsWith(`${name} `));
    return Number(line?.slice(name.length + 1) ?? Number.NaN);
  };

  it('of product is killed in the middle and goes on after its restart: the mark has what was deleted', async () => {
    await db.query(`INSERT INTO outbox (topic, ref_id, payload, created_at, published_at)
      SELECT 'seckill.return', n, '', now() - interval '8 days', now() - interval '8 days' FROM generate_series(1, ${ROWS}) AS n`);
    // No batch goes beyond this row before the kill.
    await db.query(`BEGIN; SELECT FROM outbox WHERE ref_id = ${ROWS / 2} FOR UPDATE`);
    // Small batches, so that it is killed between two of them or inside one.
    let product = await processes.start('product', {
      env: servers.env(),
      config: { retention: { batchSize: 50 }, server: { roles: ['retention'] } },
    });
    const marked = () => one('SELECT sum(rows_deleted) FROM retention_marks');
    await eventually('some are deleted', async () => (await marked()) > 0);
    await product.kill();
    await db.query('ROLLBACK');
    // A commit that was sent before the kill may still be under way.
    const sessions = `SELECT count(*) FROM pg_stat_activity
      WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`;
    await eventually('its connections have ended', async () => (await one(sessions)) === 0);
    const deleted = await marked();
    assert.ok(deleted > 0 && deleted < ROWS, `it was killed after ${deleted} rows`);
    assert.equal(deleted + (await one('SELECT count(*) FROM outbox')), ROWS);
    product = await product.again();
    // Its lease would end by itself.
    await db.query("UPDATE retention_leases SET until = now() WHERE until < now() + interval '1 minute'");
    await eventually('all are deleted', async () => (await one('SELECT count(*) FROM outbox')) === 0);
    assert.equal(await marked(), ROWS);
    await eventually('it is counted', async () => {
      const counted = await metric(product, 'kaimai_retention_deleted_total{kind="outbox"}');
      const units = await metric(product, 'kaimai_background_units_total{server="retention"}');
      return counted === ROWS - deleted && units === counted;
    });
  });

  it('of resource deletes resolved dead letters, but not those whose instance was never created', async () => {
    const message = (instanceId: bigint) => Buffer.from(Event.encode({ ...Event.create(), instanceId }).finish());
    const letter = (payload: Buffer, resolved: string | null) =>
      db.query(
        `INSERT INTO resource_dead_letters (queue, message_id, payload, reason, resolved_at)
          VALUES ('q', encode(sha256($1), 'hex'), $1, 'test', now() - $2::interval)`,
        [payload, resolved],
      );
    await db.query(`INSERT INTO instance_logs (product_id, user_id, instance_id, source, source_id, status, reported_at)
      VALUES (1, gen_random_uuid(), 11, 'ORDER', '1', 'SUCCESS', now())`);
    await letter(Buffer.from('no message'), '40 days');
    await letter(message(11n), '40 days');
    await letter(message(12n), '40 days');
    await letter(message(13n), null);
    await letter(Buffer.from('another'), '1 day');
    const resource = await processes.start('resource', { env: servers.env() });
    const left = () => one('SELECT count(*) FROM resource_dead_letters');
    await eventually('two are deleted', async () => (await left()) === 3);
    assert.equal(await one('SELECT rows_deleted FROM resource_retention_marks'), 2);
    await eventually('it is counted', async () => {
      return (await metric(resource, 'kaimai_retention_deleted_total{kind="dead_letters"}')) === 2;
    });
  });
});
