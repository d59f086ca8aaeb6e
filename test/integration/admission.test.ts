import assert from 'node:assert/strict';
import { create } from '@bufbuild/protobuf';
import { createValidator } from '@bufbuild/protovalidate';
import fc from 'fast-check';
import { isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type {
  AdmissionLoad,
  AdmissionResult,
  LoadLease,
  PurchaseRequest,
} from '../../internal/biz/seckill/admission.js';
import type { Sale } from '../../internal/biz/seckill/sale-state.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { RedisAdmission } from '../../internal/data/redis/admission.js';
import {
  ADMIT,
  CONFIGURE,
  FINISH,
  INSPECT,
  LEASE,
  LOAD,
  RETURN_UNITS,
  WITHDRAW,
} from '../../internal/data/redis/lua-script.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { saleKeys } from '../../internal/data/redis/seckill-keys.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const ALICE = formatUserId('1');
const BOB = formatUserId('2');
const LAST_STREAM_ID = '18446744073709551615-18446744073709551615';
const SETTINGS = { readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' };
const SALE = {
  id: 1n,
  total: 10n,
  startsAt: new Date(0),
  endsAt: undefined,
  defaultLimit: 1,
  admitRate: 0,
  segments: 1,
  settingsVersion: 1n,
};
const EMPTY_LOAD = {
  counted: [{ from: '0-0', to: '0-0' }],
  buyers: new Map<string, number>(),
  vipLimits: [],
  backlogLimit: 1_000,
};

describe('Admission in Redis', () => {
  const servers = useServers('redis');
  let server: RedisServer;
  let admission: RedisAdmission;
  let itemId = 1000n;
  let keys = saleKeys('', itemId);

  before(async () => {
    server = new RedisServer({ ...SETTINGS, addr: servers.redisUrl });
    await server.ready(5_000);
    admission = new RedisAdmission(server);
  });
  after(() => server?.close());
  beforeEach(() => {
    itemId += 1n;
    keys = saleKeys('', itemId);
  });

  const load = async (change: Partial<Omit<AdmissionLoad, 'sale'>> & { sale?: Partial<Sale> } = {}) => {
    const { sale: changed, ...rest } = change;
    const sale = { ...saleOf(1n), ...changed };
    const full = { ...EMPTY_LOAD, sale, stock: 10n, ...rest };
    const lease = await takeLease();
    try {
      assert.notEqual(await lease.load(full), 'CLOSED');
    } finally {
      await lease.release();
    }
    return sale;
  };
  const saleOf = (epoch: bigint) => ({ ...SALE, itemId, epoch }) as Sale;
  const takeLease = async (): Promise<LoadLease> => {
    const lease = await admission.leaseLoad(itemId);
    assert.ok(lease);
    return lease;
  };
  const stock = async () => Number(await server.commands.get(keys.stock));
  const purchase = (userId: string, quantity = 1, requestId = ''): PurchaseRequest => ({
    userId,
    quantity,
    requestId,
    traceparent: '',
  });
  const buy = (userId: string, quantity = 1, requestId = '', epoch = 1n) =>
    admission.admit({ itemId, epoch }, purchase(userId, quantity, requestId));
  const snake = (name: string) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  /** Runs it on a Redis that has no memory left. */
  const whileFull = async <T>(work: () => Promise<T>): Promise<T> => {
    await server.commands.config('SET', 'maxmemory', '1');
    try {
      await assert.rejects(server.commands.set('one more', 'x'), /OOM/);
      return await work();
    } finally {
      await server.commands.config('SET', 'maxmemory', '0');
    }
  };
  /** Runs it on a Redis that answers no write. */
  const whilePaused = async (work: () => Promise<void>): Promise<void> => {
    await server.commands.client('PAUSE', 60_000, 'WRITE');
    try {
      await work();
    } finally {
      await server.commands.client('UNPAUSE');
    }
  };
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
    assert.ok(laterMs >= 0 && laterMs < 60_000, String(laterMs));
    assert.equal(await server.commands.get(keys.stock), '9');
    assert.equal(await server.commands.get(keys.req), '4294967297');
    assert.deepEqual(await server.commands.hgetall(keys.buyers), { [ALICE]: '1' });
  });

  it('passes the trace context on to the stream', async () => {
    await load();
    const tp = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    await admission.admit({ itemId, epoch: 1n }, { ...purchase(ALICE), traceparent: tp });
    const [[, fields]] = (await server.commands.xrange(keys.stream, '-', '+')) as [[string, string[]]];
    assert.deepEqual(fields.slice(-2), ['tp', tp]);
  });

  it('counts request numbers exactly beyond 2^53, over a carry of digits', async () => {
    const epoch = 2_147_483_647n;
    await load({ sale: { epoch, defaultLimit: 100 }, stock: 100n });
    // The last 14 digits are about to overflow.
    await server.commands.set(keys.req, '9223372099999999999998');
    await assert.rejects(buy(ALICE, 1, '', epoch), isSaleUnavailable);
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

  it('gives out the stock and no more when many ask at once', async () => {
    await load({ stock: 50n });
    const admitted = await Promise.all(Array.from({ length: 400 }, (_, i) => buy(user(i))));
    assert.equal(kinds(admitted).filter((k) => k === 'QUEUED').length, 50);
    assert.equal(kinds(admitted).filter((k) => k === 'SOLD_OUT').length, 350);
    assert.equal(await server.commands.get(keys.stock), '0');
    assert.equal(await server.commands.xlen(keys.stream), 50);
    // First come, first served.
    assert.ok(admitted.slice(0, 50).every((a) => a.kind === 'QUEUED'));
  });

  it('keeps each user within the limit, also within one call, and VIPs within theirs', async () => {
    await load({ sale: { defaultLimit: 2 }, vipLimits: [{ userId: BOB, units: 3 }], buyers: new Map([[ALICE, 1]]) });
    const alice = await Promise.all([buy(ALICE), buy(ALICE)]);
    assert.deepEqual(kinds(alice), ['QUEUED', 'LIMIT_REACHED']);
    assert.deepEqual(kinds(await Promise.all([buy(BOB, 2), buy(BOB, 2), buy(BOB, 1)])), [
      'QUEUED',
      'LIMIT_REACHED',
      'QUEUED',
    ]);
  });

  it('grants a smaller request what a larger one could not get', async () => {
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

  it('admits no purchases while the backlog is full', async () => {
    await load({ backlogLimit: 3 });
    assert.deepEqual(kinds(await Promise.all([1, 2, 3, 4].map((n) => buy(user(n))))), [
      'QUEUED',
      'QUEUED',
      'QUEUED',
      'BACKLOG_FULL',
    ]);
    assert.equal(await server.commands.get(keys.stock), '7');
  });

  it('does nothing when the epoch is another or a key is missing', async () => {
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

  it('answers SALE_UNAVAILABLE and writes nothing when a key holds something else', async () => {
    for (const key of ADMIT.keys) {
      await server.commands.del(...Object.values(keys));
      await load();
      await server.commands.del(keys[key]);
      await (key === 'stock' || key === 'req'
        ? server.commands.set(keys[key], 'seven')
        : server.commands.set(keys[key], '1'));
      const before = await everything();
      await assert.rejects(buy(ALICE, 1, 'r'), isSaleUnavailable, key);
      assert.deepEqual(await everything(), before, key);
    }
  });

  it('raises before it writes when the number of arguments is wrong', async () => {
    await load();
    const before = await everything();
    for (const args of [[], ['1'], ['1', ALICE, '1', '', '', ALICE, '1', '']]) {
      await assert.rejects(ADMIT.run(server.commands, keys, args), /KAIMAI admit takes/);
    }
    assert.deepEqual(await everything(), before);
  });

  it('refuses a purchase whose arguments are out of bounds, and only that one', async () => {
    await load({ sale: { defaultLimit: 9 }, stock: 100n });
    const good = [ALICE, '1', '', ''];
    const bad = [
      ['uid', '1', '1', '', ''],
      ['uid', ALICE.toUpperCase().replace('0', 'A'), '1', '', ''],
      ['qty', ALICE, '0', '', ''],
      ['qty', ALICE, '1.5', '', ''],
      ['qty', ALICE, '9999999999', '', ''],
      ['request_id', ALICE, '1', 'x'.repeat(65), ''],
      ['request_id', ALICE, '1', '中'.repeat(22), ''],
      ['request_id', ALICE, '1', `r\0${'x'.repeat(65)}`, ''],
      ['tp', ALICE, '1', '', 'x'.repeat(129)],
    ];
    for (const [what, ...args] of bad) {
      const reply = await ADMIT.run(server.commands, keys, ['1', ...good, ...args, ...good]);
      const [status, , , first, refused, second] = reply as string[];
      assert.deepEqual([status, refused], ['OK', `INVALID ${what}`]);
      for (const outcome of [first, second]) assert.match(outcome!, /^(QUEUED|LIMIT_REACHED)/);
    }
    assert.deepEqual(await admission.admit({ itemId, epoch: 1n }, purchase(BOB, 1, 'x'.repeat(65))), {
      kind: 'INVALID',
      field: 'request_id',
    });
  });

  it('fails the purchase of a user whose count is unreadable, and no other', async () => {
    await load({ stock: 10n });
    await server.commands.hset(keys.buyers, ALICE, 'many');
    await server.commands.hset(keys.vip, user(3), 'few');
    const results = await admission.admitAll(
      { itemId, epoch: 1n },
      [ALICE, BOB, user(3)].map((u) => purchase(u)),
    );
    assert.deepEqual(kinds(results), ['STALE', 'QUEUED', 'STALE']);
    assert.equal(await stock(), 9);
  });

  it('accepts every request that passes validation, and no request changes the outcome of another', async () => {
    const { registry } = loadDescriptors();
    const message = registry.getMessage('seckill.v1.PurchaseRequest');
    assert.ok(message);
    const validator = createValidator({ registry });
    const isValid = (r: { quantity: number; requestId: string }) =>
      !r.requestId.includes('\0') &&
      validator.validate(message, create(message, { itemId, quantity: r.quantity, requestId: r.requestId } as never))
        .kind === 'valid';
    const text = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 70 }),
      fc.string({ unit: fc.constantFrom('中', 'é', '😀', 'a'), minLength: 15, maxLength: 66 }),
    );
    const request = fc.record({ quantity: fc.integer({ min: -1, max: 10_001 }), requestId: text });
    let epoch = 0n;
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 20 }), async (requests) => {
        epoch += 1n;
        // Enough for all, so that an outcome depends on nothing but its own request. Each user asks once.
        await load({ sale: { epoch, defaultLimit: 1_000_000 }, stock: 1_000_000n });
        const asked = requests.map((r, i) => ({ ...purchase(user(i)), ...r }));
        const results = await admission.admitAll({ itemId, epoch }, asked);
        asked.forEach((r, i) => {
          const kind = results[i]?.kind;
          if (isValid(r)) assert.equal(kind, 'QUEUED', JSON.stringify(r));
          else assert.ok(kind === 'QUEUED' || kind === 'INVALID', `${kind} ${JSON.stringify(r)}`);
        });
        await server.commands.del(keys.seen0, keys.seen1, keys.stream);
      }),
      { numRuns: 60 },
    );
  });

  it('takes no unit when the stream takes no entry', async () => {
    await load();
    await server.commands.xadd(keys.stream, LAST_STREAM_ID, 'uid', '1');
    assert.equal((await buy(ALICE)).kind, 'STALE');
    assert.equal(await stock(), 10);
    assert.deepEqual(await server.commands.hgetall(keys.buyers), {});
    assert.equal((await admission.state(itemId)).streamExhausted, true);
  });

  it('sends the script again to a server that has forgotten it', async () => {
    await load();
    await server.commands.script('FLUSH');
    assert.equal((await buy(ALICE)).kind, 'QUEUED');
  });

  it('remembers a request id until the end of the next window of ten minutes', async () => {
    const WINDOW_MS = 600_000;
    await load({ sale: { defaultLimit: 5 } });
    const first = await buy(ALICE, 1, 'r');
    const [seconds = 0] = (await server.commands.time()).map(Number);
    const window = Math.floor((seconds * 1_000) / WINDOW_MS);
    const [now, before] = window % 2 === 0 ? [keys.seen0, keys.seen1] : [keys.seen1, keys.seen0];
    // In whichever window the purchase came, the key lives through the whole of the next.
    const expiresMs = Number(await server.commands.call('PEXPIRETIME', now));
    const written = expiresMs > 0 ? window : window - 1;
    const expiry = expiresMs > 0 ? expiresMs : Number(await server.commands.call('PEXPIRETIME', before));
    assert.equal(expiry, (written + 2) * WINDOW_MS);
    // As if the next window had begun: what was the present one's key is that of the one before.
    if (expiresMs > 0) await server.commands.rename(now, before);
    assert.deepEqual(await buy(ALICE, 1, 'r'), first);
    assert.deepEqual(await admission.findAdmitted(itemId, [purchase(ALICE, 1, 'r'), purchase(BOB, 1, 'r')]), [
      first,
      { kind: 'ENDED' },
    ]);
    assert.equal(await stock(), 9);
  });

  describe('a load', () => {
    it('happens once for an epoch, and never for an older one', async () => {
      await load({ stock: 5n });
      await buy(ALICE);
      await load({ stock: 5n });
      assert.equal(await stock(), 4);
      await load({ sale: { epoch: 3n }, stock: 7n, buyers: new Map([[BOB, 1]]) });
      await load({ sale: { epoch: 2n }, stock: 9n });
      assert.equal(await stock(), 7);
      assert.deepEqual(await server.commands.hgetall(keys.buyers), { [BOB]: '1' });
      assert.equal(await server.commands.get(keys.req), String(3n << 32n));
      assert.equal(await server.commands.ttl(keys.buyers), -1);
    });

    it('is refused when what was gathered for it is incomplete', async () => {
      const next = { nextBuyers: `${keys.buyers}:1`, nextVip: `${keys.vip}:1` };
      const reply = await LOAD.run(server.commands, { ...keys, ...next }, ['1', '0', '1', '0', '5', 'limit', '1']);
      assert.equal(reply, 'INCOMPLETE');
      assert.deepEqual(await everything(), {});
    });

    it('replaces keys of the wrong type, and sets aside what stood in place of the stream', async () => {
      for (const key of INSPECT.keys) {
        await server.commands.del(...Object.values(keys));
        await load({ stock: 5n });
        await server.commands.del(keys[key]);
        if (key === 'stock' || key === 'req') await server.commands.rpush(keys[key], 'x');
        else await server.commands.set(keys[key], 'x');
        assert.deepEqual((await admission.state(itemId)).unreadable, [snake(key)], key);
        const lease = await takeLease();
        await lease.suspend();
        await lease.release();
        await load({ sale: { epoch: 2n }, stock: 5n });
        const { unreadable, loaded } = await admission.state(itemId);
        assert.deepEqual([unreadable, loaded?.epoch], [[], 2n], key);
        assert.equal((await buy(ALICE, 1, 'r', 2n)).kind, 'QUEUED', key);
      }
      await server.commands.del(keys.stream);
      await server.commands.set(keys.stream, 'mine');
      const lease = await takeLease();
      await lease.suspend();
      await lease.release();
      assert.equal(await server.commands.get(keys.broken), 'mine');
      assert.ok((await server.commands.pttl(keys.broken)) > 0);
    });

    it('replaces an exhausted stream as soon as it is empty', async () => {
      await load();
      await server.commands.xadd(keys.stream, LAST_STREAM_ID, 'uid', '1');
      const lease = await takeLease();
      await lease.suspend();
      assert.equal(await server.commands.xlen(keys.stream), 1);
      await server.commands.xdel(keys.stream, LAST_STREAM_ID);
      assert.equal((await admission.state(itemId)).streamExhausted, true);
      await lease.suspend();
      await lease.release();
      await load({ sale: { epoch: 2n } });
      assert.equal((await buy(ALICE, 1, '', 2n)).kind, 'QUEUED');
    });

    it('has one holder at a time, also within a process', async () => {
      const other = new RedisAdmission(server);
      const lease = await takeLease();
      assert.equal(await admission.leaseLoad(itemId), undefined);
      assert.equal(await other.leaseLoad(itemId), undefined);
      await lease.release();
      const taken = await other.leaseLoad(itemId);
      assert.ok(taken);
      await assert.rejects(lease.suspend(), isSaleUnavailable);
      await taken.release();
    });

    it('keeps its lease while it works, beyond the time for which it was taken', async () => {
      const lease = await takeLease();
      await server.commands.pexpire(keys.loading, 1_500);
      await eventually('the lease was renewed', async () => (await server.commands.pttl(keys.loading)) > 2_000);
      await lease.release();
      assert.equal(await server.commands.exists(keys.loading), 0);
    });

    it('can begin within seconds after the process that was loading has died', async () => {
      const dying = new RedisServer({ ...SETTINGS, addr: servers.redisUrl });
      await dying.ready(5_000);
      assert.ok(await new RedisAdmission(dying).leaseLoad(itemId));
      // Its renewals go nowhere from here on.
      dying.close();
      assert.ok((await server.commands.pttl(keys.loading)) <= 4_000);
      const lease = await eventually('the lease lapsed', () => admission.leaseLoad(itemId));
      await lease.release();
    });

    it('can begin at once for the holder of a lease whose reply was lost', async () => {
      const hasty = new RedisServer({ ...SETTINGS, addr: servers.redisUrl, readTimeoutMs: 100 });
      try {
        await hasty.ready(5_000);
        const impatient = new RedisAdmission(hasty);
        await eventually('it is connected', () => impatient.state(itemId));
        await server.commands.script('LOAD', LEASE.source);
        await whilePaused(() => assert.rejects(impatient.leaseLoad(itemId), isSaleUnavailable));
        // It cannot lapse.
        await eventually('the lease was taken all the same', async () => server.commands.persist(keys.loading));
        const lease = await eventually('it is taken again', () => impatient.leaseLoad(itemId));
        await lease.release();
      } finally {
        hasty.close();
      }
    });

    it('releases its lease also when Redis does not answer for a moment', async () => {
      const lease = await takeLease();
      const commands = await server.commands.client('ID');
      await server.admission.client('KILL', 'ID', String(commands));
      await lease.release();
      await server.ready(5_000);
      assert.equal(await server.commands.exists(keys.loading), 0);
    });
  });

  describe('close', () => {
    it('admits no more purchases, and keeps the replies to repeated requests', async () => {
      const sale = await load();
      const first = await buy(ALICE, 1, 'r');
      await admission.close(sale);
      assert.equal((await buy(BOB)).kind, 'ENDED');
      assert.deepEqual(await buy(ALICE, 1, 'r'), first);
      const { loaded, closedEpoch } = await admission.state(itemId);
      assert.deepEqual([loaded, closedEpoch], [undefined, 1n]);
      await load({ sale: { epoch: 2n } });
      await admission.close(sale);
      assert.equal((await buy(BOB, 1, '', 2n)).kind, 'QUEUED');
    });

    it('lets every key of the sale expire', async () => {
      const sale = await load({ buyers: new Map([[BOB, 1]]), vipLimits: [{ userId: BOB, units: 3 }] });
      await buy(ALICE);
      await admission.returnUnits({ returnId: 1n, itemId, userId: BOB, quantity: 1, epoch: 1n });
      await server.commands.hset(keys.waitingRoom, 'id', 'x');
      await server.commands.zadd(keys.tickets, 1, ALICE);
      await admission.close(sale);
      for (const key of ['meta', 'stock', 'req', 'buyers', 'vip', 'returned'] as const) {
        const ttl = await server.commands.pttl(keys[key]);
        assert.ok(ttl > 0 && ttl <= 86_400_000, `${key} expires in ${ttl} ms`);
      }
      assert.equal(await server.commands.exists(keys.waitingRoom, keys.tickets), 0);
    });

    it('lets keys expire that a return or an entry makes after it', async () => {
      const sale = await load();
      await admission.close(sale);
      await admission.returnUnits({ returnId: 1n, itemId, userId: BOB, quantity: 1, epoch: 1n });
      const returned = await server.commands.pttl(keys.returned);
      await server.commands.del(keys.buyers, keys.returned);
      await FINISH.run(server.commands, keys, ['product', '1', '900-0', '1', '', ALICE, '1', 'ORDER', '']);
      const ttls = [returned, ...(await Promise.all([keys.buyers, keys.returned].map((k) => server.commands.pttl(k))))];
      assert.ok(
        ttls.every((ttl) => ttl > 0 && ttl <= 86_400_000),
        `returned, buyers and returned expire in ${ttls} ms`,
      );
    });

    it('stops a load of the same epoch that comes after it', async () => {
      for (const there of [false, true]) {
        await server.commands.del(...Object.values(keys));
        if (there) await load({ sale: { epoch: 3n } });
        const sale = saleOf(4n);
        await admission.close(sale);
        const lease = await takeLease();
        await lease.suspend();
        assert.equal(await lease.load({ ...EMPTY_LOAD, sale, stock: 5n }), 'CLOSED');
        await lease.release();
        assert.equal((await buy(ALICE, 1, '', 4n)).kind, 'STALE');
        assert.equal((await buy(ALICE, 1, '', 3n)).kind, 'STALE');
      }
    });

    it('works when Redis is full', async () => {
      const sale = await load();
      await whileFull(() => admission.close(sale));
      assert.equal((await buy(ALICE)).kind, 'ENDED');
    });
  });

  describe('changed settings', () => {
    const change = {
      ...{ from: 1n, to: 2n, total: 13n, endsAt: new Date(4_000_000_000_000), defaultLimit: 3, admitRate: 7 },
      vipLimits: [{ userId: BOB, units: 0 }],
    };

    it('replace those of the version that they start from, and no other', async () => {
      const sale = await load();
      assert.equal(await admission.configure(sale, { ...change, from: 2n, to: 3n }), false);
      assert.equal(await admission.configure({ itemId, epoch: 2n }, change), false);
      assert.equal(await admission.configure(sale, change), true);
      const { loaded } = await admission.state(itemId);
      assert.deepEqual([loaded?.settingsVersion, loaded?.defaultLimit, loaded?.admitRate], [2n, 3, 7]);
      assert.deepEqual([loaded?.total, loaded?.stock, loaded?.endsAt], [13n, 13n, change.endsAt]);
      assert.equal(await server.commands.hget(keys.vip, BOB), '0');
      // The same change again, and an older one that comes late.
      assert.equal(await admission.configure(sale, change), false);
      assert.equal(await admission.configure(sale, { ...change, defaultLimit: 1 }), false);
      assert.equal((await admission.state(itemId)).loaded?.defaultLimit, 3);
    });

    it('lower the total before PostgreSQL has it, once and only by units that are left', async () => {
      const sale = await load({ stock: 4n });
      assert.deepEqual(await admission.withdraw(sale, 5n), { kind: 'SHORT', stock: 4n });
      assert.deepEqual(await admission.withdraw({ ...sale, settingsVersion: 2n }, 7n), { kind: 'OTHER' });
      assert.deepEqual(await admission.withdraw({ ...sale, epoch: 2n }, 7n), { kind: 'OTHER' });
      assert.equal(await stock(), 4);
      assert.deepEqual(await admission.withdraw(sale, 7n), { kind: 'WITHDRAWN' });
      assert.deepEqual(await admission.withdraw(sale, 7n), { kind: 'WITHDRAWN' });
      assert.equal(await stock(), 1);
      // The settings that follow bring the same total.
      assert.equal(await admission.configure(sale, { ...change, total: 7n }), true);
      assert.equal(await stock(), 1);
      await server.commands.hset(keys.meta, 'total', 'many');
      await assert.rejects(admission.withdraw({ ...sale, settingsVersion: 2n }, 6n), isSaleUnavailable);
      await assert.rejects(admission.configure(sale, { ...change, from: 2n, to: 3n }), isSaleUnavailable);
    });

    it('apply when Redis is full', async () => {
      const sale = await load();
      assert.equal(await whileFull(() => admission.configure(sale, change)), true);
    });

    it('are refused before the first write when an argument is wrong', async () => {
      await load();
      const before = await everything();
      for (const args of [
        ['1', '1', '2', '10', '', '3'],
        ['1', '1', '2', '-10', '', '3', '0'],
        ['1', '1', '2', '10', 'x', '3', '0'],
        ['1', '1', '2', '10', '', '-3', '0'],
        ['1', '1', '2', '10', '', '3', '0', 'x', '1'],
        ['1', '1', '2', '10', '', '3', '0', BOB, 'x'],
      ]) {
        await assert.rejects(CONFIGURE.run(server.commands, keys, args), /KAIMAI/);
      }
      for (const args of [
        ['1', '1'],
        ['1', 'x', '5'],
        ['1', '1', '-5'],
      ]) {
        await assert.rejects(WITHDRAW.run(server.commands, keys, args), /KAIMAI/);
      }
      assert.deepEqual(await everything(), before);
    });
  });

  it('takes units back once for each return and only in its epoch', async () => {
    await load({ sale: { epoch: 2n }, stock: 1n, buyers: new Map([[ALICE, 1]]) });
    const units = { returnId: 77n, itemId, userId: ALICE, quantity: 1, epoch: 2n };
    assert.equal(await admission.returnUnits(units), true);
    assert.equal(await admission.returnUnits(units), true);
    assert.equal(await stock(), 2);
    assert.deepEqual(await server.commands.hgetall(keys.buyers), {});
    assert.deepEqual(await admission.findReturned(itemId, [76n, 77n]), new Set([77n]));
    assert.equal(await admission.returnUnits({ ...units, returnId: 78n, epoch: 1n }), true);
    assert.equal(await admission.returnUnits({ ...units, returnId: 79n, epoch: 3n }), false);
    assert.equal(await stock(), 2);
    await assert.rejects(RETURN_UNITS.run(server.commands, keys, ['2', '80', ALICE, '-1']), /KAIMAI/);
  });

  describe('finished entries', () => {
    const finish = (...entries: string[][]) =>
      FINISH.run(server.commands, keys, ['product', String(entries.length), ...entries.flatMap((e) => [...e, ''])]);
    const add = async (...ids: string[]) => {
      for (const id of ids) await server.commands.xadd(keys.stream, id, 'uid', '1');
      await server.commands.xgroup('CREATE', keys.stream, 'product', '0').catch(() => {});
    };
    const counted = [{ from: '400-0', to: '500-3' }];
    const loadTen = () => load({ sale: { epoch: 2n, defaultLimit: 9 }, stock: 10n, counted });

    it('give back what a load had counted when they are refused, and pay nothing when they become orders', async () => {
      await loadTen();
      await add('400-0', '500-3');
      assert.deepEqual(
        await finish(['400-0', '2', '1', BOB, '1', 'REFUSED'], ['500-3', '2', '', BOB, '1', 'ORDER']),
        [],
      );
      assert.equal(await stock(), 11);
      assert.equal(await server.commands.xlen(keys.stream), 0);
    });

    it('pay when they become orders and held nothing, once', async () => {
      await loadTen();
      await add('399-9', '500-4');
      for (const id of ['500-4', '500-4', '399-9']) await finish([id, '2', '', BOB, '2', 'ORDER']);
      assert.equal(await stock(), 6);
      assert.equal(await server.commands.hget(keys.buyers, BOB), '4');
    });

    it('give back what admission took when they are refused, for whatever reason, once', async () => {
      await loadTen();
      const admitted = await buy(ALICE, 3, '', 2n);
      assert.ok(admitted.kind === 'QUEUED');
      assert.equal(await stock(), 7);
      const refused = [admitted.streamId, '2', '2', ALICE, '3', 'REFUSED'];
      await finish(refused);
      await finish(refused);
      assert.equal(await stock(), 10);
      assert.equal(await server.commands.hexists(keys.buyers, ALICE), 0);
    });

    it('give back what they held also when the stream was lost', async () => {
      await loadTen();
      const admitted = await buy(ALICE, 3, '', 2n);
      assert.ok(admitted.kind === 'QUEUED');
      await server.commands.del(keys.stream);
      await finish([admitted.streamId, '2', '2', ALICE, '3', 'REFUSED']);
      assert.equal(await stock(), 10);
    });

    it('leave no unit stranded when another program’s entry and an admitted purchase want more than there is', async () => {
      await load({ sale: { epoch: 2n, defaultLimit: 9 }, stock: 2n });
      await add('100-0');
      const admitted = await buy(ALICE, 2, '', 2n);
      assert.ok(admitted.kind === 'QUEUED');
      await finish(['100-0', '2', '', BOB, '1', 'ORDER']);
      assert.equal(await stock(), -1);
      assert.equal((await buy(user(3), 1, '', 2n)).kind, 'SOLD_OUT');
      await finish([admitted.streamId, '2', '2', ALICE, '2', 'REFUSED']);
      // One unit in Redis and one live order: the total of two.
      assert.equal(await stock(), 1);
      assert.equal((await buy(user(3), 1, 'not known as sold out', 2n)).kind, 'QUEUED');
    });

    it('wait while their epoch is not loaded, and change nothing when theirs is older', async () => {
      await loadTen();
      await add('800-0');
      assert.deepEqual(await finish(['800-0', '3', '', BOB, '1', 'ORDER']), ['800-0']);
      assert.equal(await server.commands.xlen(keys.stream), 1);
      assert.deepEqual(await finish(['800-0', '1', '', BOB, '1', 'ORDER']), []);
      assert.equal(await stock(), 10);
      assert.equal(await server.commands.xlen(keys.stream), 0);
    });

    it('leave the stream without a correction when they need none', async () => {
      await loadTen();
      await add('900-0', '900-1');
      assert.deepEqual(await FINISH.run(server.commands, keys, ['product', '0', '900-0', '', '900-1', '1']), []);
      assert.deepEqual([await stock(), await server.commands.xlen(keys.stream)], [10, 0]);
    });

    it('are those of their users: another user’s entry with the same id stays, and is corrected by itself', async () => {
      await loadTen();
      await add('450-0', '900-0');
      const other = ['450-0', '2', '', ALICE, '1', 'REFUSED', '2'];
      assert.deepEqual(await FINISH.run(server.commands, keys, ['product', '1', ...other, '900-0', '2']), []);
      assert.deepEqual([await stock(), await server.commands.xlen(keys.stream)], [11, 2]);
      const own = ['450-0', '2', '', BOB, '1', 'REFUSED', '1'];
      assert.deepEqual(await FINISH.run(server.commands, keys, ['product', '1', ...own, '900-0', '1']), []);
      assert.deepEqual([await stock(), await server.commands.xlen(keys.stream)], [12, 0]);
      // Each of them once.
      await FINISH.run(server.commands, keys, ['product', '2', ...own, ...other]);
      assert.equal(await stock(), 12);
    });

    it('are corrected by stock alone when the count of their user is unreadable', async () => {
      await loadTen();
      await add('500-4');
      await server.commands.hset(keys.buyers, BOB, 'many');
      await finish(['500-4', '2', '', BOB, '2', 'ORDER']);
      assert.equal(await stock(), 8);
      assert.equal(await server.commands.hget(keys.buyers, BOB), '2');
    });

    it('are refused before the first write when an argument is wrong', async () => {
      await loadTen();
      const before = await everything();
      for (const args of [
        [],
        ['product'],
        ['product', '0'],
        ['product', '1', '900-0'],
        ['product', 'x', '900-0', ''],
        ['product', '0', 'x', ''],
        ['product', '0', '900-0'],
        ['product', '1', '900-0', '2', '', BOB, '1', 'SOLD_OUT', ''],
      ]) {
        await assert.rejects(FINISH.run(server.commands, keys, args), /KAIMAI/);
      }
      assert.deepEqual(await everything(), before);
    });
  });

  it('reports its state only when all of it is there', async () => {
    assert.equal((await admission.state(itemId)).loaded, undefined);
    await load({ sale: { endsAt: new Date(4_000_000_000_000) } });
    const { loaded, now, backlog } = await admission.state(itemId);
    assert.deepEqual(
      [loaded?.epoch, loaded?.stock, loaded?.endsAt, loaded?.defaultLimit, backlog],
      [1n, 10n, new Date(4_000_000_000_000), 1, 0],
    );
    assert.ok(Math.abs(now.getTime() - Date.now()) < 60_000);
    for (const key of ['stock', 'req', 'meta'] as const) {
      await server.commands.del(keys[key]);
      const state = await admission.state(itemId);
      assert.deepEqual([state.loaded, state.unreadable], [undefined, []]);
    }
  });

  it('answers SALE_UNAVAILABLE while Redis is away, and sends nothing twice', async () => {
    await load();
    const clientId = await server.admission.client('ID');
    await whilePaused(async () => {
      const refused = assert.rejects(buy(ALICE), isSaleUnavailable);
      await server.commands.client('KILL', 'ID', String(clientId));
      await refused;
    });
    await server.ready(5_000);
    assert.equal(await server.commands.xlen(keys.stream), 0);
    assert.equal((await buy(ALICE)).kind, 'QUEUED');
  });
});
