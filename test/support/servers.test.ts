import assert from 'node:assert/strict';
import { connect } from 'amqplib';
import { Redis } from 'ioredis';
import pg from 'pg';
import { leasePostgres, leaseRabbitmq, leaseRedis } from './leases.js';
import { SuiteServers, useServers } from './servers.js';

describe('servers for suites', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');

  it('provides a database with the schema', async () => {
    const client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    const { rows } = await client.query('SELECT count(*)::int AS tables FROM pg_tables WHERE schemaname = $1', [
      'public',
    ]);
    assert.ok(rows[0].tables >= 4);
    const durable = await client.query(
      `SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS sync`,
    );
    assert.deepEqual(durable.rows, [{ fsync: 'on', sync: 'on' }]);
    await client.end();
  });

  it('provides an empty Redis database that no other suite sees', async () => {
    const other = await leaseRedis();
    const [mine, theirs] = [new Redis(servers.redisUrl), new Redis(other.url)];
    await mine.set('key', 'value');
    assert.equal(await theirs.get('key'), null);
    assert.equal(await mine.dbsize(), 1);
    await Promise.all([mine.quit(), theirs.quit()]);
    await other.drop();
  });

  it('provides a virtual host that keeps a confirmed message', async () => {
    const connection = await connect(servers.rabbitmqUrl);
    const channel = await connection.createConfirmChannel();
    const queue = servers.queue('resource.instance.created');
    await channel.assertQueue(queue, { durable: true });
    channel.sendToQueue(queue, Buffer.from('one'), { persistent: true });
    await channel.waitForConfirms();
    const message = await channel.get(queue, { noAck: true });
    assert.ok(message);
    assert.equal(message.content.toString(), 'one');
    await connection.close();
  });

  it('reports a connection that a suite left open, and still removes everything', async () => {
    const suite = new SuiteServers();
    suite.add('postgres', await leasePostgres('kaimai_test_leak'));
    suite.add('redis', await leaseRedis());
    suite.add('rabbitmq', await leaseRabbitmq('kaimai_test_leak'));
    const database = new pg.Client({ connectionString: suite.postgresUrl, application_name: 'leaky' });
    database.on('error', () => {});
    await database.connect();
    await database.query('SELECT 42');
    const redis = new Redis(suite.redisUrl);
    await redis.ping();
    const queueing = await connect(suite.rabbitmqUrl);
    queueing.on('error', () => {});

    const message = await suite.release().then(String, (error: Error) => error.message);
    await database.end().catch(() => {});
    redis.disconnect();
    await queueing.close().catch(() => {});
    assert.match(message, /PostgreSQL leaky, last statement: SELECT 42/);
    assert.match(message, /Redis id=/);
    assert.match(message, /RabbitMQ, local port \d+/);
    assert.throws(() => suite.postgresUrl, /call useServers\('postgres'\)/);
  });
});
