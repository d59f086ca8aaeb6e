import assert from 'node:assert/strict';
import { isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { AdmissionLoad, AdmissionResult, PurchaseRequest } from '../../internal/biz/seckill/admission.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { RedisAdmission } from '../../internal/data/redis/admission.js';
import { ADMIT, FINISH, LOAD, RETURN_UNITS } from '../../internal/data/redis/lua-script.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { useServers } from '../support/servers.js';

const ALICE = formatUserId('1');
const BOB = formatUserId('2');

describe('admission in Redis', () => {
  const servers = useServers('redis');
  let server: RedisServer;
  let admission: RedisAdmission;
  let itemId = 1000n;
  let keys = saleKeys('', itemId);

  before(async () => {
    server = new RedisServer({ addr: servers.redisUrl, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
    await server.ready(5_000);
    admission = new RedisAdmission(server);
  });
  after(() => server?.close());
  beforeEach(() => {
    itemId += 1n;
    keys = saleKeys('', itemId);
  });

  const load = async (change: Partial<Omit<AdmissionLoad, 'sale'>> & { sale?: Partial<Sale> } = {}) => {
    const { sale, ...rest } = change;
    const full = {
      sale: {
        id: 1n,
        itemId,
        epoch: 1n,
        startsAt: new Date(0),
        endsAt: undefined,
        defaultLimit: 1,
        admitRate: 0,
        ...sale,
      } as Sale,
      stock: 10n,
      fence: '0-0',
      buyers: new Map<string, number>(),
      vipLimits: [],
      backlogLimit: 1_000,
      ...rest,
    };
    await admission.load(full);
    return full.sale;
  };
  const request = (userId: string, quantity = 1, requestId = ''): PurchaseRequest => ({
    userId,
    quantity,
    requestId,
    traceparent: '',
  });
  const buy = (userId: string, quantity = 1, requestId = '', epoch = 1n) =>
    admission.admit({ itemId, epoch }, request(userId, quantity, requestId));
  const kinds = (admitted: readonly AdmissionResult[]) => admitted.map((a) => a.kind);
  const user = (n: number) => formatUserId(String(n));
  const everything = async () => {
    const dump: Record<string, unknown> = {};
    for (const key of (await server.commands.keys(`*seckill:${itemId}*`)).sort()) {
      dump[key] = (await server.commands.dumpBuffer(key)).toString('hex');
    }
    return dump;
  };

  it('writes the entry that the contract names and takes the unit', async () => {
    await load();
    const admitted = await buy(ALICE);
    assert.ok(admitted.kind === 'QUEUED');
    const [[id, fields]] = (await server.commands.xrange(keys.stream, '-', '+')) as [[string, string[]]];
    assert.equal(id, admitted.streamId);
    assert.deepEqual(fields.slice(0, 4), ['uid', ALICE, 'req_id', '4294967297']);
    assert.deepEqual([fields[4], ...fields.slice(6)], ['ts', 'qty', '1', 'epoch', '1']);
    // The script's clock stands still while it runs, that of XADD does not.
    const laterMs = Number(id.split('-')[0]) - Number(fields[5]);
    assert.ok(laterMs >= 0 && laterMs < 1_000, String(laterMs));
    assert.equal(await server.commands.get(keys.stock), '9');
    assert.equal(await server.commands.get(keys.req), '4294967297');
    assert.deepEqual(await server.commands.hgetall(keys.buyers), { [ALICE]: '1' });
  });

  it('passes the trace context on', async () => {
    await load();
    const tp = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await admission.admit({ itemId, epoch: 1n }, { ...request(ALICE), traceparent: tp });
    const [[, fields]] = (await server.commands.xrange(keys.stream, '-', '+')) as [[string, string[]]];
    assert.deepEqual(fields.slice(-2), ['tp', tp]);
  });

  it('counts request numbers exactly beyond 2^53, over a carry of digits', async () => {
    const epoch = 2_147_483_647n;
    await load({ sale: { epoch, defaultLimit: 100 }, stock: 100n });
    // The last 14 digits are about to overflow.
    await server.commands.set(keys.req, '9223372099999999999998');
    await assert.rejects(buy(ALICE, 1, '', epoch), /KAIMAI req/);
    await server.commands.set(keys.req, '9199999999999999998');
    await Promise.all(Array.from({ length: 5 }, () => buy(ALICE, 1, '', epoch)));
    const entries = (await server.commands.xrange(keys.stream, '-', '+')) as [string, string[]][];
    assert.deepEqual(
      entries.map(([, f]) => f[3]),
      [1n, 2n, 3n, 4n, 5n].map((n) => String(9_199_999_999_999_999_998n + n)),
    );
    assert.equal(await server.commands.get(keys.req), '9200000000000000003');
  });

  it('judges the window by its own clock', async () => {
    await load({ sale: { startsAt: new Date(Date.now() + 3_600_000) } });
    assert.equal((await buy(ALICE)).kind, 'NOT_STARTED');
    await load({ sale: { epoch: 2n, startsAt: new Date(0), endsAt: new Date(1) } });
    assert.equal((await buy(ALICE, 1, '', 2n)).kind, 'ENDED');
  });

  it('gives out the stock and no more, whoever asks at once', async () => {
    await load({ stock: 50n });
    const admitted = await Promise.all(Array.from({ length: 400 }, (_, i) => buy(user(i))));
    assert.equal(kinds(admitted).filter((k) => k === 'QUEUED').length, 50);
    assert.equal(kinds(admitted).filter((k) => k === 'SOLD_OUT').length, 350);
    assert.equal(await server.commands.get(keys.stock), '0');
    assert.equal(await server.commands.xlen(keys.stream), 50);
    // First come, first served.
    assert.ok(admitted.slice(0, 50).every((a) => a.kind === 'QUEUED'));
  });

  it('keeps the limit of each user, also within one call, and VIPs to theirs', async () => {
    await load({ sale: { defaultLimit: 2 }, vipLimits: [{ userId: BOB, units: 3 }], buyers: new Map([[ALICE, 1]]) });
    const alice = await Promise.all([buy(ALICE), buy(ALICE)]);
    assert.deepEqual(kinds(alice), ['QUEUED', 'LIMIT_REACHED']);
    assert.deepEqual(kinds(await Promise.all([buy(BOB, 2), buy(BOB, 2), buy(BOB, 1)])), [
      'QUEUED',
      'LIMIT_REACHED',
      'QUEUED',
    ]);
  });

  it('lets a smaller request have what a larger one could not', async () => {
    await load({ sale: { defaultLimit: 5 }, stock: 3n });
    assert.deepEqual(kinds(await Promise.all([buy(ALICE, 4), buy(BOB, 3), buy(ALICE)])), [
      'SOLD_OUT',
      'QUEUED',
      'SOLD_OUT',
    ]);
  });

  it('answers a repeated request id with the same entry and takes nothing', async () => {
    await load({ sale: { defaultLimit: 5 } });
    const first = await buy(ALICE, 1, 'r1');
    assert.deepEqual(await buy(ALICE, 1, 'r1'), first);
    const [a, b] = await Promise.all([buy(ALICE, 1, 'r2'), buy(ALICE, 1, 'r2')]);
    assert.deepEqual(a, b);
    assert.notDeepEqual(a, first);
    // Another user's request id is another request.
    assert.notDeepEqual(await buy(BOB, 1, 'r1'), first);
    assert.equal(await server.commands.get(keys.stock), '7');
    const ttls = await Promise.all([keys.seen0, keys.seen1].map((key) => server.commands.pttl(key)));
    assert.ok(ttls.some((ttl) => ttl > 0 && ttl <= 1_200_000));
  });

  it('closes when too many entries wait', async () => {
    await load({ backlogLimit: 3 });
    assert.deepEqual(kinds(await Promise.all([1, 2, 3, 4].map((n) => buy(user(n))))), [
      'QUEUED',
      'QUEUED',
      'QUEUED',
      'BACKLOG_FULL',
    ]);
    assert.equal(await server.commands.get(keys.stock), '7');
  });

  it('does nothing where the epoch is another or a key is missing', async () => {
    assert.equal((await buy(ALICE)).kind, 'STALE');
    await load();
    assert.equal((await buy(ALICE, 1, '', 2n)).kind, 'STALE');
    for (const key of [keys.meta, keys.stock, keys.req]) {
      await load({ sale: { epoch: 1n } });
      await server.commands.del(key);
      const before = await everything();
      assert.equal((await buy(ALICE)).kind, 'STALE', key);
      assert.deepEqual(await everything(), before);
      await server.commands.del(keys.meta);
    }
  });

  it('raises before it writes where a key holds something else', async () => {
    for (const key of ADMIT.keys.filter((k) => k !== 'seen0' && k !== 'seen1')) {
      await server.commands.del(...Object.values(keys));
      await load();
      await server.commands.del(keys[key]);
      await (key === 'stock' || key === 'req'
        ? server.commands.set(keys[key], 'seven')
        : server.commands.set(keys[key], '1'));
      const before = await everything();
      await assert.rejects(buy(ALICE, 1, 'r'), /WRONGTYPE|KAIMAI/, key);
      assert.deepEqual(await everything(), before, key);
    }
  });

  it('raises before it writes where an argument does not fit', async () => {
    await load();
    const good = [ALICE, '1', '', ''];
    for (const bad of [
      ['1', ...good.slice(1)],
      [ALICE.toUpperCase().replace('0', 'A'), '1', '', ''],
      [ALICE, '0', '', ''],
      [ALICE, '1.5', '', ''],
      [ALICE, '9999999999', '', ''],
      [ALICE, '1', 'x'.repeat(65), ''],
      [ALICE, '1', '', 'x'.repeat(129)],
      [ALICE, '1', ''],
    ]) {
      const before = await everything();
      await assert.rejects(ADMIT.run(server.commands, keys, ['1', ...good, ...bad]), /KAIMAI/);
      assert.deepEqual(await everything(), before);
    }
  });

  it('takes no unit when the stream takes no entry', async () => {
    await load();
    await server.commands.xadd(keys.stream, '18446744073709551615-18446744073709551615', 'uid', '1');
    assert.equal((await buy(ALICE)).kind, 'STALE');
    assert.equal(await server.commands.get(keys.stock), '10');
    assert.deepEqual(await server.commands.hgetall(keys.buyers), {});
  });

  it('sends the script again to a server that has forgotten it', async () => {
    await load();
    await server.commands.script('FLUSH');
    assert.equal((await buy(ALICE)).kind, 'QUEUED');
  });

  it('is loaded once for an epoch, and never with an older one', async () => {
    await load({ stock: 5n });
    await buy(ALICE);
    await load({ stock: 5n });
    assert.equal(await server.commands.get(keys.stock), '4');
    await load({ sale: { epoch: 3n }, stock: 7n, buyers: new Map([[BOB, 1]]) });
    await load({ sale: { epoch: 2n }, stock: 9n });
    assert.equal(await server.commands.get(keys.stock), '7');
    assert.deepEqual(await server.commands.hgetall(keys.buyers), { [BOB]: '1' });
    assert.equal(await server.commands.get(keys.req), String(3n << 32n));
    assert.equal(await server.commands.ttl(keys.buyers), -1);
  });

  it('refuses a load whose gathered part is not whole', async () => {
    const next = { nextBuyers: `${keys.buyers}:1`, nextVip: `${keys.vip}:1` };
    const reply = await LOAD.run(server.commands, { ...keys, ...next }, ['1', '5', '0', '1', '0', 'limit', '1']);
    assert.equal(reply, 'INCOMPLETE');
    assert.deepEqual(await everything(), {});
  });

  it('admits nobody after close, and keeps the answers of repeated requests', async () => {
    const sale = await load();
    const first = await buy(ALICE, 1, 'r');
    await admission.close(sale);
    assert.equal((await buy(BOB)).kind, 'ENDED');
    assert.deepEqual(await buy(ALICE, 1, 'r'), first);
    assert.ok((await server.commands.pttl(keys.buyers)) > 0);
    await load({ sale: { epoch: 2n } });
    await admission.close(sale);
    assert.equal((await buy(BOB, 1, '', 2n)).kind, 'QUEUED');
  });

  it('takes units back once for each order and only in its epoch', async () => {
    await load({ sale: { epoch: 2n }, stock: 1n, buyers: new Map([[ALICE, 1]]) });
    const units = { orderId: 77n, itemId, userId: ALICE, quantity: 1, epoch: 2n };
    assert.equal(await admission.returnUnits(units), true);
    assert.equal(await admission.returnUnits(units), true);
    assert.equal(await server.commands.get(keys.stock), '2');
    assert.deepEqual(await server.commands.hgetall(keys.buyers), {});
    assert.equal(await admission.returnUnits({ ...units, orderId: 78n, epoch: 1n }), true);
    assert.equal(await admission.returnUnits({ ...units, orderId: 79n, epoch: 3n }), false);
    assert.equal(await server.commands.get(keys.stock), '2');
    await assert.rejects(RETURN_UNITS.run(server.commands, keys, ['2', '80', ALICE, '-1']), /KAIMAI/);
  });

  it('squares the stock with what became of entries, once', async () => {
    await load({ sale: { epoch: 2n, defaultLimit: 9 }, stock: 10n, fence: '500-3' });
    const taken = await buy(ALICE, 2, '', 2n);
    assert.ok(taken.kind === 'QUEUED');
    await server.commands.del(keys.stream);
    const ids = ['400-0', '500-3', '500-4', '600-0', '700-0', '800-0'];
    for (const id of ids) await server.commands.xadd(keys.stream, id, 'uid', '1');
    await server.commands.xgroup('CREATE', keys.stream, 'product', '0');
    const settle = (...entries: string[][]) =>
      FINISH.run(server.commands, keys, ['product', String(entries.length), ...entries.flat()]);
    const stock = async () => Number(await server.commands.get(keys.stock));
    assert.equal(await stock(), 8);
    // Counted by the load, refused: comes back. Counted by the load, became an order: was paid for.
    assert.deepEqual(await settle(['400-0', '2', '1', BOB, '1', 'REFUSED'], ['500-3', '2', '', BOB, '1', 'ORDER']), []);
    assert.equal(await stock(), 9);
    // Added by somebody else: pays now.
    const foreign = ['500-4', '2', '', BOB, '1', 'ORDER'];
    await settle(foreign);
    await settle(foreign);
    assert.equal(await stock(), 8);
    assert.equal(await server.commands.hget(keys.buyers, BOB), '1');
    // AdmissionResult and refused: comes back, and the user has less. Sold out in PostgreSQL: does not come back.
    await settle(['600-0', '2', '2', ALICE, '1', 'REFUSED']);
    await settle(['700-0', '2', '2', ALICE, '1', 'SOLD_OUT']);
    assert.equal(await stock(), 9);
    assert.equal(await server.commands.hexists(keys.buyers, ALICE), 0);
    // Settled under an epoch that is not loaded: waits, and stays.
    assert.deepEqual(await settle(['800-0', '3', '', BOB, '1', 'ORDER']), ['800-0']);
    assert.equal(await server.commands.xlen(keys.stream), 1);
    // Settled under an older one: gone, and counted already.
    assert.deepEqual(await settle(['800-0', '1', '', BOB, '1', 'ORDER']), []);
    assert.equal(await stock(), 9);
    assert.equal(await server.commands.xlen(keys.stream), 0);
    // Nothing to square.
    for (const id of ['900-0', '900-1']) await server.commands.xadd(keys.stream, id, 'uid', '1');
    assert.deepEqual(await FINISH.run(server.commands, keys, ['product', '0', '900-0', '900-1']), []);
    assert.deepEqual([await stock(), await server.commands.xlen(keys.stream)], [9, 0]);
    for (const args of [
      [],
      ['product'],
      ['product', '0'],
      ['product', '1', '900-0'],
      ['product', 'x', '900-0'],
      ['product', '0', 'x'],
    ]) {
      await assert.rejects(FINISH.run(server.commands, keys, args), /KAIMAI/);
    }
  });

  it('tells an epoch only with its stock', async () => {
    assert.equal((await admission.state(itemId)).epoch, undefined);
    await load();
    const state = await admission.state(itemId);
    assert.deepEqual([state.epoch, state.remaining], [1n, 10n]);
    assert.ok(Math.abs(state.now.getTime() - Date.now()) < 60_000);
    await server.commands.del(keys.stock);
    assert.equal((await admission.state(itemId)).epoch, undefined);
  });

  it('lets one at a time load', async () => {
    const release = await admission.reserveLoad(itemId);
    assert.ok(release);
    assert.equal(await admission.reserveLoad(itemId), undefined);
    await release();
    const again = await admission.reserveLoad(itemId);
    assert.ok(again);
    await again();
  });

  it('says SALE_UNAVAILABLE while Redis is away, and sends nothing twice', async () => {
    await load();
    const clientId = await server.admission.client('ID');
    await server.commands.client('PAUSE', 200, 'WRITE');
    const refused = assert.rejects(buy(ALICE), isSaleUnavailable);
    await server.commands.client('KILL', 'ID', String(clientId));
    await refused;
    await server.commands.client('UNPAUSE');
    await server.ready(5_000);
    assert.equal(await server.commands.xlen(keys.stream), 0);
    assert.equal((await buy(ALICE)).kind, 'QUEUED');
  });
});
