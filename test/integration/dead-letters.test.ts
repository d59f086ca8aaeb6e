import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { type ChannelModel, connect } from 'amqplib';
import { Redis } from 'ioredis';
import pg from 'pg';
import { Event } from '../../gen/instance/v1/event.js';
import { projectRoot } from '../../internal/local/project.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const USER = '00000000-0000-8000-8000-00000000007b';
const LIST_HEADER = /^ID +CREATED \(UTC\) +ORIGIN +MESSAGE +REASON$/m;

describe('kaimai dead-letters', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let queue: string;
  let product: string;
  let db: pg.Client;
  let redis: Redis;
  let broker: ChannelModel;

  before(async () => {
    queue = servers.queue('resource.instance.created');
    servers.queue('resource.instance.created.dead');
    const config = { data: { rabbitmq: { queue } } };
    const productProcess = await processes.start('product', { env: servers.env(), config });
    product = `http://${productProcess.http}`;
    await processes.start('resource', { env: { ...servers.env(), ...productProcess.env() }, config });
    db = new pg.Client({ connectionString: servers.postgresUrl });
    await db.connect();
    redis = new Redis(servers.redisUrl);
    broker = await connect(servers.rabbitmqUrl);
  });

  after(async () => {
    await db.end();
    redis.disconnect();
    await broker.close();
  });

  /** Runs the command as an operator does. */
  function kaimai(...args: string[]): Promise<{ code: number; out: string }> {
    const command = [join(projectRoot, 'dist/cmd/kaimai/main.js'), 'dead-letters', ...args, '--queue', queue];
    return new Promise((resolve) => {
      execFile(process.execPath, command, { env: { ...process.env, ...servers.env() } }, (error, out, err) =>
        resolve({ code: error ? Number(error.code) : 0, out: `${out}${err}`.trimEnd() }),
      );
    });
  }

  async function admin<T>(method: string, path: string, body: unknown): Promise<T> {
    const headers = { 'content-type': 'application/json', 'x-user-role': 'ADMIN' };
    const reply = await fetch(`${product}${path}`, { method, headers, body: JSON.stringify(body) });
    const text = await reply.text();
    assert.ok(reply.ok, text);
    return JSON.parse(text) as T;
  }

  async function newProduct(): Promise<string> {
    const spec = await admin<{ id: string }>('POST', '/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const status = 'ENABLED';
    const { id } = await admin<{ id: string }>('POST', '/v1/products', {
      name: 'Plan',
      priceFen: '100',
      specId: spec.id,
      status,
    });
    return id;
  }

  async function setStatus(item: string, status: 'ENABLED' | 'DISABLED'): Promise<void> {
    const { version } = await one<{ version: string }>('SELECT version FROM products WHERE id = $1', item);
    await admin('PATCH', `/v1/products/${item}`, { status, version });
  }

  async function one<Row extends pg.QueryResultRow>(sql: string, ...values: unknown[]): Promise<Row> {
    const { rows } = await db.query<Row>(sql, values);
    assert.equal(rows.length, 1, `${rows.length} rows: ${sql}`);
    return rows[0]!;
  }

  function ordersOf(item: string): Promise<number> {
    return one<{ n: number }>('SELECT count(*)::int AS n FROM orders WHERE product_id = $1', item).then(({ n }) => n);
  }

  /** The outcome of each entry of an item, in stream order, once there are so many. */
  function outcomes(item: string, count: number): Promise<string[]> {
    return eventually(`${count} outcomes`, async () => {
      const { rows } = await db.query<{ outcome: string }>(
        'SELECT outcome FROM stream_inbox WHERE item_id = $1 ORDER BY created_at, stream_id',
        [item],
      );
      return rows.length >= count && rows.map(({ outcome }) => outcome);
    });
  }

  /** Adds a purchase that becomes a dead letter, and makes it possible again. @returns the letter's id */
  async function deadPurchase(item: string): Promise<string> {
    await setStatus(item, 'DISABLED');
    await redis.xadd(`stream:seckill:${item}`, '*', 'uid', '123', 'note', '开卖');
    await outcomes(item, 1);
    const letter = await one<{ id: string }>('SELECT id FROM dead_letters WHERE origin = $1', `stream:seckill:${item}`);
    await setStatus(item, 'ENABLED');
    return `product-${letter.id}`;
  }

  it('lists and shows a purchase with its fields and the reason', async () => {
    const item = await newProduct();
    const id = await deadPurchase(item);
    const list = await kaimai('list');
    assert.equal(list.code, 0, list.out);
    assert.match(list.out, LIST_HEADER);
    assert.match(list.out, new RegExp(`^${id} .* stream:seckill:${item} .* PRODUCT_DISABLED$`, 'm'));
    const show = await kaimai('show', id);
    assert.match(show.out, /^reason {6}PRODUCT_DISABLED$/m);
    assert.match(show.out, /^resolution {2}waits$/m);
    assert.match(show.out, /^ {2}uid: 123\n {2}note: 开卖$/m);
    const [letter] = JSON.parse((await kaimai('list', '--json')).out) as { id: string; content: unknown }[];
    assert.deepEqual([letter?.id, letter?.content], [id, { uid: '123', note: '开卖' }]);
    assert.equal((await kaimai('drop', id, '--reason', 'end of the test')).code, 0);
  });

  it('replays a purchase as one order, also when the replay is repeated after a crash', async () => {
    const item = await newProduct();
    const id = await deadPurchase(item);
    const replay = await kaimai('replay', id);
    assert.match(replay.out, new RegExp(`^${id}: replayed as ${item}-\\d+-\\d+$`));
    assert.deepEqual(await outcomes(item, 2), ['DEAD', 'ORDER']);

    const again = await kaimai('replay', id);
    assert.equal(again.code, 0);
    assert.match(again.out, new RegExp(`^${id}: nothing to do: replayed as ${item}-`));

    // As if the command had died before it could mark the letter.
    await db.query("UPDATE dead_letters SET resolved_at = NULL, resolution = '' WHERE id = $1", [id.split('-')[1]]);
    assert.match((await kaimai('replay', id)).out, /: replayed as /);
    assert.deepEqual(await outcomes(item, 3), ['DEAD', 'ORDER', 'REJECTED']);
    assert.equal(await ordersOf(item), 1);
  });

  it('replays a purchase of an open sale with its units, and leaves the sale consistent', async () => {
    const item = await newProduct();
    await admin('POST', '/v1/sales', { itemId: item, name: 'Sale', total: '3', priceFen: '50', defaultLimit: 2 });
    await admin('POST', `/v1/sales/${item}/open`, {});
    const stock = () => redis.get(`seckill:${item}:stock`);
    await eventually('the sale is loaded', async () => (await stock()) === '3');
    const epoch = await redis.hget(`seckill:${item}:meta`, 'epoch');
    assert.ok(epoch);
    // A purchase as admission adds it, which took its unit.
    await setStatus(item, 'DISABLED');
    await redis
      .multi()
      .decr(`seckill:${item}:stock`)
      .hincrby(`seckill:${item}:buyers`, USER, 1)
      .xadd(
        `stream:seckill:${item}`,
        '*',
        'uid',
        USER,
        'req_id',
        String((BigInt(epoch) << 32n) + 1n),
        'qty',
        '1',
        'epoch',
        epoch,
      )
      .exec();
    await outcomes(item, 1);
    await eventually('the unit is returned', async () => (await stock()) === '3');
    await setStatus(item, 'ENABLED');

    assert.match((await kaimai('replay', '--all')).out, /: replayed as /);
    assert.deepEqual(await outcomes(item, 2), ['DEAD', 'ORDER']);
    await eventually('the unit is taken again', async () => (await stock()) === '2');
    assert.equal(await redis.hget(`seckill:${item}:buyers`, USER), '1');
    const order = await one(
      'SELECT o.price::int AS price, s.sold::int AS sold FROM orders o JOIN sales s ON s.id = o.sale_id WHERE o.product_id = $1',
      item,
    );
    assert.deepEqual(order, { price: 50, sold: 1 });
  });

  it('drops a letter with a reason and keeps it on record', async () => {
    const item = await newProduct();
    const id = await deadPurchase(item);
    assert.equal((await kaimai('drop', id)).code, 1, 'a reason is required');
    assert.equal((await kaimai('drop', id, '--reason', 'a test entry')).out, `${id}: dropped: a test entry`);
    assert.equal((await kaimai('replay', id)).out, `${id}: nothing to do: dropped: a test entry`);
    assert.equal((await kaimai('list')).out, 'no dead letters');
    assert.match((await kaimai('list', '--resolved')).out, new RegExp(`^${id} .* dropped: a test entry$`, 'm'));
    assert.equal(await ordersOf(item), 0);
    assert.deepEqual(await kaimai('replay', 'product-999999'), { code: 1, out: 'product-999999: not found' });
  });

  it('replays an instance request of the resource domain as one instance', async () => {
    const event = Event.encode({
      ...Event.create(),
      eventType: 'INSTANCE_CREATED',
      instanceId: 777_001n,
      productId: 1001n,
      userId: '123',
      source: 'TEST',
      sourceId: 'dead-letter-1',
      name: 'inst-777001',
      spec: { cpus: 1, memoryMb: 1024, gpu: 0, image: 'debian-12' },
    }).finish();
    const { id } = await one<{ id: string }>(
      `INSERT INTO resource_dead_letters (queue, message_id, payload, reason)
         VALUES ($1, encode(sha256($2), 'hex'), $2, 'an earlier release could not read it') RETURNING id`,
      queue,
      event,
    );
    assert.match((await kaimai('show', `resource-${id}`)).out, /instance\.v1\.Event \{.*"sourceId":"dead-letter-1"/);
    assert.equal((await kaimai('replay', `resource-${id}`)).out, `resource-${id}: replayed to ${queue}`);
    const logs = () => one<{ n: number }>("SELECT count(*)::int AS n FROM instance_logs WHERE source = 'TEST'");
    await eventually('the instance log', async () => (await logs()).n === 1);
    await db.query('UPDATE resource_dead_letters SET resolved_at = NULL WHERE id = $1', [id]);
    assert.match((await kaimai('replay', `resource-${id}`)).out, /: replayed to /);
    await eventually(
      'the empty queue',
      async () => (await broker.createChannel().then((c) => c.checkQueue(queue))).messageCount === 0,
    );
    assert.equal((await logs()).n, 1);
  });

  it('keeps a message waiting that is rejected again after its replay', async () => {
    const channel = await broker.createChannel();
    channel.sendToQueue(queue, Buffer.from('not an event'));
    const find = () =>
      db.query<{ id: string; deliveries: number }>(
        "SELECT id, deliveries FROM resource_dead_letters WHERE payload = 'not an event'",
      );
    const { id } = await eventually('the dead letter', async () => (await find()).rows[0]);
    const replay = await kaimai('replay', `resource-${id}`);
    assert.match(replay.out, /^resource-\d+: (replayed to|rejected again: not an instance)/);
    await eventually('the second rejection', async () => (await find()).rows[0]?.deliveries === 2);
    assert.match(
      (await kaimai('list')).out,
      new RegExp(`^resource-${id} .* ${queue} .* not an instance.v1.Event`, 'm'),
    );
    assert.match((await kaimai('drop', `resource-${id}`, '--reason', 'not ours')).out, /dropped: not ours$/);
    assert.equal((await kaimai('list')).out, 'no dead letters');
    await channel.close();
  });

  it('lists, replays and drops messages of the dead-letter queue', async () => {
    const channel = await broker.createChannel();
    const large = Buffer.alloc(70 * 1024, 7);
    channel.sendToQueue(queue, large);
    const waiting = async () => (await channel.checkQueue(`${queue}.dead`)).messageCount;
    await eventually('the message in the dead-letter queue', async () => (await waiting()) === 1);
    const list = await kaimai('list');
    const id = /^(queue-[0-9a-f]{12}) .*\.dead .* the broker put it aside: rejected$/m.exec(list.out)?.[1];
    assert.ok(id, list.out);
    await eventually('the message is where it was', async () => (await waiting()) === 1);
    assert.equal((await kaimai('replay', id)).out, `${id}: replayed to ${queue}`);
    await eventually('the message is back', async () => (await waiting()) === 1);
    assert.match((await kaimai('show', id)).out, /71680 bytes: (07)+\n {2}… \(--json shows all of them\)$/);
    assert.equal((await kaimai('drop', id, '--reason', 'too large')).out, `${id}: dropped: too large`);
    await eventually('it is gone', async () => (await waiting()) === 0);
    await channel.close();
  });
});
