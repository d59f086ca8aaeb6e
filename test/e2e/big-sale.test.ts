import assert from 'node:assert/strict';
import pg from 'pg';
import { formatUserId } from '../../internal/biz/identity.js';
import { compareStreamIds } from '../../internal/biz/seckill/purchase-stream.js';
import type { Postgres } from '../../internal/data/postgres/postgres.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { Random } from '../simulation/random.js';
import { violationsOf } from '../support/audit.js';
import { Crowd, type Told } from '../support/crowd.js';
import { openPostgres } from '../support/instances.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import type { Click, Way } from '../support/purchase-client.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const UNITS = 10_000;
const BUYERS = 50_000;
const SEED = 20261120;
/** Users 1 to VIPS may buy three units, the next BARRED users none. */
const VIPS = 20;
const VIP_LIMIT = 3;
const BARRED = 20;

describe(`A sale of ${UNITS} units to ${BUYERS} buyers on two replicas`, () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let products: TestProcess[];
  let db: Postgres;
  let redis: RedisServer;
  let crowd: Crowd;
  let itemId: bigint;
  let saleId: bigint;

  before(async () => {
    const options = { env: { ...servers.env(), KAIMAI_LOG_LEVEL: 'warn', KAIMAI_SERVER_WORKERS: '1' } };
    products = await Promise.all([processes.start('product', options), processes.start('product', options)]);
    db = openPostgres(servers.postgresUrl, 'kaimai_product');
    redis = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 10_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await redis.ready(5_000);
    const spec = await admin('POST', '/v1/product-specs', { cpu: 1, memory: 1, image: 'debian-12' });
    const plan = await admin('POST', '/v1/products', { name: 'p', priceFen: '1', specId: spec.id, status: 'ENABLED' });
    itemId = BigInt(plan.id);
    await admin('POST', '/v1/sales', { itemId: plan.id, total: String(UNITS), payMode: 'PAY_LATER' });
    saleId = BigInt((await admin('POST', `/v1/sales/${itemId}/open`, {})).id);
    for (let user = 1; user <= VIPS + BARRED; user++) {
      await admin('PUT', `/v1/sales/${itemId}/vip-limits/${user}`, { limit: user <= VIPS ? VIP_LIMIT : 0 });
    }
    crowd = new Crowd(products, itemId);
  });
  after(async () => {
    crowd?.close();
    redis?.close();
    await db?.close();
  });

  async function admin(method: string, path: string, body: unknown): Promise<{ id: string }> {
    const reply = await fetch(`http://${products[0]!.http}${path}`, {
      method,
      headers: { 'x-user-role': 'ADMIN', 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await reply.text();
    assert.equal(reply.status, 200, text);
    return JSON.parse(text) as { id: string };
  }

  interface Row {
    order_id: bigint;
    user_id: string;
    stream_id: string;
    req_id: bigint;
    epoch: bigint;
  }
  let orders: Row[];
  const queued = () => crowd.told.filter((t) => t.code === 'QUEUED');
  const orderOf = (t: Told) => bySeckillId.get(t.seckillId)!;
  let bySeckillId: Map<string, Row>;

  it('sells every unit, and the audit finds no violation', async () => {
    const random = new Random(SEED);
    const clicks: Click[] = [];
    for (let user = 1; user <= BUYERS; user++) {
      // One in ten buyers clicks again: with the request id of the first click, or with a new one.
      const requestId = random.chance(0.5) ? `click-${user}` : '';
      clicks.push({ user, requestId });
      if (random.chance(0.1)) clicks.push({ user, requestId });
      if (user <= VIPS) for (let n = 0; n < VIP_LIMIT; n++) clicks.push({ user, requestId: '' });
    }
    for (let i = clicks.length - 1; i > 0; i--) {
      const j = random.int(i + 1);
      [clicks[i], clicks[j]] = [clicks[j]!, clicks[i]!];
    }
    // The clicks are in random order, but the few VIPs come while units are left.
    clicks.sort((a, b) => Number(b.user <= VIPS + BARRED) - Number(a.user <= VIPS + BARRED));
    const ways: Way[] = ['grpc', 'json', 'batch', 'batch', 'batch', 'batch'];
    await crowd.rush(clicks, () => ({ way: random.pick(ways), replica: random.int(products.length) }));
    assert.equal(crowd.told.length, clicks.length);

    await eventually('the stream is empty', async () => (await redis.commands.xlen(`stream:seckill:${itemId}`)) === 0);
    assert.deepEqual(await violationsOf(db, redis), []);
    const client = new pg.Client({ connectionString: servers.postgresUrl });
    await client.connect();
    const { rows } = await client.query<Record<keyof Row, string>>(
      `SELECT o.id AS order_id, o.user_id, i.stream_id, o.req_id, i.epoch FROM orders o
       JOIN stream_inbox i ON i.order_id = o.id WHERE o.sale_id = $1`,
      [saleId],
    );
    await client.end();
    orders = rows.map((r) => ({
      ...r,
      order_id: BigInt(r.order_id),
      req_id: BigInt(r.req_id),
      epoch: BigInt(r.epoch),
    }));
    bySeckillId = new Map(orders.map((o) => [`${itemId}-${o.stream_id}`, o]));
    assert.equal(orders.length, UNITS);
  });

  it('has an order for every QUEUED purchase, and no others', () => {
    const acknowledged = new Map(queued().map((t) => [t.seckillId, t]));
    for (const [seckillId, told] of acknowledged) {
      assert.equal(bySeckillId.get(seckillId)?.user_id, formatUserId(String(told.user)), seckillId);
    }
    // Every row belongs to a click of its buyer.
    assert.equal(acknowledged.size, UNITS);
    assert.ok(queued().length > UNITS, 'at least one repeated click was QUEUED again');
  });

  it('sold the units to the buyers who were admitted first', () => {
    const byStream = orders.toSorted((a, b) => compareStreamIds(a.stream_id, b.stream_id));
    const first = (byStream[0]!.epoch << 32n) + 1n;
    // Consecutive in the order of admission, without gaps: they are the first 10,000.
    byStream.forEach((o, i) => {
      assert.equal(o.req_id, first + BigInt(i));
    });
  });

  it('admitted purchases in the order of the clicks: a reply before another click means an earlier admission', () => {
    const first = new Map<string, Told>();
    for (const t of queued()) {
      const known = first.get(t.seckillId);
      if (!known || t.sentAtMs < known.sentAtMs) first.set(t.seckillId, t);
    }
    const winners = [...first.values()];
    const sent = winners.toSorted((a, b) => a.sentAtMs - b.sentAtMs);
    const answered = winners.toSorted((a, b) => a.answeredAtMs - b.answeredAtMs);
    let next = 0;
    let latest = 0n;
    for (const t of sent) {
      while (answered[next] && answered[next]!.answeredAtMs < t.sentAtMs) {
        const { req_id } = orderOf(answered[next++]!);
        if (req_id > latest) latest = req_id;
      }
      assert.ok(orderOf(t).req_id > latest, `user ${t.user} was overtaken`);
    }
    assert.ok(next > 0, 'all clicks were concurrent, so their order proves nothing');
    // No click that followed a SOLD_OUT reply was successful.
    const soldOut = crowd.told.filter((t) => t.code === 'SOLD_OUT');
    const firstRefusal = soldOut.reduce((least, t) => Math.min(least, t.answeredAtMs), Number.POSITIVE_INFINITY);
    const lastWin = winners.reduce((most, t) => Math.max(most, t.sentAtMs), 0);
    assert.ok(soldOut.length > 0 && lastWin < firstRefusal);
  });

  it('enforced the limits: one unit each, three for VIPs, none for barred users', () => {
    const units = new Map<string, number>();
    for (const o of orders) units.set(o.user_id, (units.get(o.user_id) ?? 0) + 1);
    const of = (user: number) => units.get(formatUserId(String(user))) ?? 0;
    for (let user = 1; user <= BUYERS; user++) {
      const wanted = user <= VIPS ? VIP_LIMIT : user <= VIPS + BARRED ? 0 : undefined;
      if (wanted === undefined) assert.ok(of(user) <= 1, `user ${user} has ${of(user)}`);
      else assert.equal(of(user), wanted, `user ${user}`);
    }
    // Only users who have used up their limit get LIMIT_REACHED.
    const limited = crowd.told.filter((t) => t.code === 'LIMIT_REACHED');
    assert.ok(limited.some((t) => t.user > VIPS + BARRED));
    for (const t of limited) assert.ok(of(t.user) > 0 || t.user <= VIPS + BARRED, `user ${t.user} has none`);
    assert.deepEqual([...new Set(crowd.told.map((t) => t.code))].sort(), ['LIMIT_REACHED', 'QUEUED', 'SOLD_OUT']);
  });

  it('answers a repeated click like the first one', () => {
    const wins = new Map<string, Set<string>>();
    for (const t of queued().filter((q) => q.requestId !== '')) {
      wins.set(t.requestId, (wins.get(t.requestId) ?? new Set()).add(t.seckillId));
    }
    for (const [requestId, ids] of wins) assert.equal(ids.size, 1, requestId);
    const users = new Set(queued().map((t) => `${t.user} ${t.requestId}`));
    for (const t of crowd.told.filter((c) => c.code !== 'QUEUED' && c.requestId !== '')) {
      assert.ok(!users.has(`${t.user} ${t.requestId}`), `${t.user} was told QUEUED and ${t.code} of one click`);
    }
  });
});
