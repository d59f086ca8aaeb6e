import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isSaleUnavailable } from '../../gen/seckill/v1/errors.js';
import { formatUserId } from '../../internal/biz/identity.js';
import type { CreateSale } from '../../internal/biz/seckill/sale.js';
import type { EntryDecision, WaitingRoomReply, WaitingRoomTerms } from '../../internal/biz/seckill/waiting-room.js';
import { WAITING_ROOM } from '../../internal/data/redis/lua-script.js';
import type { RedisPlace } from '../../internal/data/redis/redis-connection.js';
import type { SeckillConsumer } from '../../internal/server/seckill-consumer.js';
import { replicaOn, type SeckillReplica } from '../support/seckill.js';
import type { SuiteServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const TURN_MS = 60_000;

/** @param redis where Redis is, once the hooks of the enclosing suite have run */
export function waitingRoomContract(name: string, servers: SuiteServers, redis: () => RedisPlace): void {
  describe(`The waiting room ${name}`, () => {
    let replica: SeckillReplica;
    let other: SeckillReplica;
    let consumer: SeckillConsumer;

    before(async () => {
      [replica, other] = [replicaOn(servers, redis()), replicaOn(servers, redis())];
      await Promise.all([replica.start(), other.start()]);
      // A server that does not know the script yet runs the first calls a round trip later, and so not in their order.
      for (const master of replica.redis.masters()) await master.script('LOAD', WAITING_ROOM.source);
      consumer = replica.consumer('a');
      await consumer.start();
    });
    after(async () => {
      await consumer?.stop(AbortSignal.timeout(10_000));
      await Promise.all([replica?.close(), other?.close()]);
    });

    const keysOf = (itemId: bigint) => replica.redis.keys.sale(itemId);
    const open = async (admitRate: number, change: Partial<CreateSale> = {}) => {
      const { itemId } = await replica.openSale({ admitRate, total: 10_000n, ...change });
      return itemId;
    };
    const user = (n: number) => formatUserId(String(n));
    const enter = (itemId: bigint, n: number, by = replica) => by.waitingRoom.enter(itemId, user(n));
    const setRate = async (itemId: bigint, admitRate: number) => {
      const { version } = (await replica.sales.get(itemId)).sale;
      await replica.sales.update(itemId, version, { admitRate });
    };
    const setRateInRedis = (itemId: bigint, rate: number) =>
      replica.redis.commands.hset(keysOf(itemId).meta, 'admit_rate', String(rate));
    /** Asks the waiting room itself, past the tokens. */
    const asker = async (itemId: bigint, terms: Partial<WaitingRoomTerms> = {}) => {
      const { epoch } = (await replica.sales.get(itemId)).sale;
      return (n: number, by = replica) =>
        by.room.ask({ itemId, epoch }, user(n), { turnMs: TURN_MS, capacity: 1_000, ...terms });
    };
    const kinds = (answers: readonly (WaitingRoomReply | EntryDecision)[]) => answers.map((a) => a.kind);
    /** As if `ms` had passed since the waiting room last changed: it compares these times with the clock of Redis. */
    const pass = async (itemId: bigint, ms: number) => {
      const { waitingRoom: line } = keysOf(itemId);
      for (const field of ['at', 'old_at']) {
        if (await replica.redis.commands.hexists(line, field))
          await replica.redis.commands.hincrby(line, field, String(-ms));
      }
    };
    const tickets = async (itemId: bigint): Promise<Map<string, number>> => {
      const flat = await replica.redis.commands.zrange(keysOf(itemId).tickets, '0', '-1', 'WITHSCORES');
      return new Map(flat.flatMap((v, i) => (i % 2 === 0 ? [[v, Number(flat[i + 1])] as const] : [])));
    };

    it('admits 500 users who arrive at two replicas in the order of their arrival, at the set rate', async () => {
      // Slow, so that many wait after the first look, however long that took.
      const RATE = 10;
      const ROUND_MS = 6_000;
      const itemId = await open(RATE);
      const asks = await Promise.all([asker(itemId), asker(itemId)]);
      const ask = (n: number) => asks[n % 2]!(n, n % 2 === 0 ? replica : other);
      const all = Array.from({ length: 500 }, (_, n) => n);
      const first = await Promise.all(all.map(ask));
      const ticketOf = await tickets(itemId);
      assert.equal(new Set(ticketOf.values()).size, 500);
      // Commands of one connection arrive as they were sent.
      for (let n = 2; n < 500; n++) assert.ok(ticketOf.get(user(n))! > ticketOf.get(user(n - 2))!);

      let startMs = Number(await replica.redis.commands.hget(keysOf(itemId).waitingRoom, 'at'));
      const places = new Set<string>();
      let waiting = all;
      let rounds = 0;
      const look = (n: number, answer: WaitingRoomReply): boolean => {
        assert.ok(answer.kind === 'READY' || answer.kind === 'WAITING', answer.kind);
        const ticket = ticketOf.get(user(n))!;
        const called = Math.floor(((answer.now.getTime() - startMs) * RATE) / 1_000);
        assert.equal(answer.kind, ticket <= called ? 'READY' : 'WAITING', `ticket ${ticket} when ${called} was called`);
        if (answer.kind === 'READY') places.add(answer.ticket);
        else assert.equal(answer.ahead, ticket - called - 1);
        return answer.kind === 'WAITING';
      };
      waiting = waiting.filter((n) => look(n, first[n]!));
      await eventually('all are admitted', async () => {
        rounds++;
        await pass(itemId, ROUND_MS);
        startMs -= ROUND_MS;
        const answers = await Promise.all(waiting.map(ask));
        waiting = waiting.filter((n, i) => look(n, answers[i]!));
        return waiting.length === 0;
      });
      assert.ok(rounds > 1);
      assert.equal(places.size, 500);
    });

    it('keeps one ticket for each user who asks often and at two replicas at once', async () => {
      const itemId = await open(1);
      const ask = await asker(itemId);
      const [leader, ...same] = await Promise.all([ask(0), ask(7), ask(7, other), ask(7), ask(8)]);
      assert.equal(leader?.kind, 'READY');
      const ahead = same.map((a) => (a.kind === 'WAITING' ? a.ahead : -1));
      assert.deepEqual(ahead, [0, 0, 0, 1]);
      await Promise.all([9, 10, 11].map((n) => ask(n)));
      const again = await ask(7);
      assert.deepEqual([again.kind, again.kind === 'WAITING' && again.ahead], ['WAITING', 0]);
      assert.equal((await tickets(itemId)).size, 6);
    });

    it('tells a user how many are ahead, how long it takes and when to ask again', async () => {
      const itemId = await open(10);
      await Promise.all(Array.from({ length: 100 }, (_, n) => enter(itemId, n)));
      const entry = await enter(itemId, 100);
      assert.ok(entry.kind === 'WAITING');
      assert.ok(entry.ahead >= 50 && entry.ahead <= 99, String(entry.ahead));
      assert.ok(entry.waitMs > entry.ahead * 100 && entry.waitMs <= (entry.ahead + 1) * 100, String(entry.waitMs));
      assert.ok(entry.askAgainMs! > 0 && entry.askAgainMs! < entry.waitMs);
    });

    it('gives one token for a turn, which buys once, and a new ticket after the turn', async () => {
      const itemId = await open(1_000, { defaultLimit: 5 });
      const [one, two] = [await enter(itemId, 1), await enter(itemId, 1)];
      assert.ok(one.kind === 'READY' && two.kind === 'READY');
      assert.deepEqual([two.token, two.expiresAt], [one.token, one.expiresAt]);
      assert.equal((await replica.buy(itemId, 1)).kind, 'TOKEN_REQUIRED');
      const bought = await replica.buy(itemId, 1, 'r', one.token);
      assert.equal(bought.kind, 'QUEUED');
      assert.deepEqual(await replica.buy(itemId, 1, 's', two.token), bought);
      await pass(itemId, TURN_MS);
      const three = await enter(itemId, 1);
      assert.ok(three.kind === 'READY' && three.token !== one.token);
      assert.notDeepEqual(await replica.buy(itemId, 1, '', three.token), bought);
      await eventually('both are orders', async () => (await replica.sales.get(itemId)).sale.sold === 2n);
    });

    it('does not wait for users who left, and gives them a new ticket after their turn', async () => {
      const itemId = await open(1);
      const ask = await asker(itemId);
      for (const n of [0, 1, 2, 3]) await ask(n);
      await pass(itemId, 2_000);
      assert.deepEqual(kinds([await ask(2), await ask(3)]), ['READY', 'WAITING']);
      await pass(itemId, TURN_MS);
      for (const n of [4, 5, 6]) await ask(n);
      const back = await ask(1);
      assert.deepEqual([back.kind, back.kind === 'WAITING' && back.ahead], ['WAITING', 2]);
    });

    it('saves up no turns while no user comes', async () => {
      const itemId = await open(2);
      const ask = await asker(itemId);
      await ask(0);
      await pass(itemId, 30_000);
      const answers = await Promise.all([1, 2, 3, 4, 5].map((n) => ask(n)));
      assert.deepEqual(kinds(answers), ['READY', 'WAITING', 'WAITING', 'WAITING', 'WAITING']);
    });

    it('keeps the order over every change of the rate', async () => {
      const itemId = await open(1);
      const all = Array.from({ length: 30 }, (_, n) => n);
      for (const n of all) await enter(itemId, n);
      await setRate(itemId, 10);
      const waiting = await enter(itemId, 29);
      assert.ok(waiting.kind === 'WAITING' && waiting.waitMs <= 100 * (waiting.ahead + 1));
      await pass(itemId, 1_000);
      const seen = kinds(await Promise.all(all.map((n) => enter(itemId, n))));
      const called = seen.filter((k) => k === 'READY').length;
      assert.ok(called >= 11 && called < 30, String(called));
      assert.deepEqual(
        seen,
        all.map((n) => (n < called ? 'READY' : 'WAITING')),
      );
      await setRate(itemId, 1);
      const slower = await enter(itemId, 29);
      assert.ok(slower.kind === 'WAITING' && slower.ahead <= 29 - called && slower.waitMs > 1_000 * slower.ahead);
      // Without a waiting room all are admitted, with a token: a process knows the sale with one for a moment more.
      await setRate(itemId, 0);
      assert.ok((await Promise.all(all.map((n) => enter(itemId, n)))).every((e) => e.kind === 'READY'));
      assert.equal((await enter(itemId, 99)).kind, 'READY');
    });

    it('calls tickets in order and never too many, at any rates and times', async () => {
      const itemId = await open(1);
      const ask = await asker(itemId, { turnMs: 3_600_000 });
      let users = 0;
      const step = fc.oneof(
        fc.record({ join: fc.integer({ min: 1, max: 5 }) }),
        fc.record({ rate: fc.integer({ min: 1, max: 50 }) }),
        fc.record({ pass: fc.integer({ min: 1, max: 1_000 }) }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async (steps) => {
          // A waiting room of its own for each run.
          await replica.redis.commands.del(keysOf(itemId).waitingRoom, keysOf(itemId).tickets);
          const from = users;
          let rate = 1;
          await setRateInRedis(itemId, rate);
          const start = await ask(users++);
          let [credit, atMs, passedMs] = [1, start.kind === 'STALE' ? 0 : start.now.getTime(), 0];
          for (const s of steps) {
            if ('join' in s) for (let i = 0; i < s.join; i++) await ask(users++);
            else if ('pass' in s) {
              await pass(itemId, s.pass);
              passedMs += s.pass;
            }
            const here = Array.from({ length: users - from }, (_, i) => from + i);
            const answers = await Promise.all(here.map((n) => ask(n)));
            const last = answers.at(-1)!;
            const nowMs = last.kind === 'STALE' ? 0 : last.now.getTime();
            credit += ((nowMs - atMs + passedMs) * rate) / 1_000;
            [atMs, passedMs] = [nowMs, 0];
            // Later answers are of a later moment, so more may be called, but never one behind one who waits.
            const called = answers.findIndex((a) => a.kind === 'WAITING');
            const ready = called === -1 ? here.length : called;
            assert.ok(ready <= Math.floor(credit + 1e-6), `${ready} called, ${credit} allowed`);
            if ('rate' in s) {
              rate = s.rate;
              await setRateInRedis(itemId, rate);
              const told = await ask(from);
              assert.equal(told.kind, 'READY');
              const toldMs = told.kind === 'READY' ? told.now.getTime() : 0;
              // Which of the two rates this moment counts by is not known from here.
              credit += ((toldMs - atMs) * 50) / 1_000;
              atMs = toldMs;
            }
            const again = await Promise.all(here.slice(0, ready).map((n) => ask(n)));
            assert.ok(again.every((a) => a.kind === 'READY'));
          }
        }),
        { numRuns: 12 },
      );
    });

    it('keeps the times of calls over a change of the rate, to the millisecond', async () => {
      const itemId = await open(2);
      const ask = await asker(itemId);
      const first = await ask(99);
      assert.ok(first.kind === 'READY');
      const { waitingRoom, tickets: key } = keysOf(itemId);
      const at = first.now.getTime() - 900;
      const oldAt = at - 10_000;
      // One ticket a second from ticket 2 on; then, from ticket 4 on, two a second.
      const times = { rate: 2, base: 4, at, old_rate: 1, old_base: 2, old_at: oldAt, next: 10 };
      await replica.redis.commands.hset(waitingRoom, times);
      for (let ticket = 0; ticket < 10; ticket++) await replica.redis.commands.zadd(key, ticket, user(ticket));
      const calledAt = async (ticket: number) => {
        const answer = await ask(ticket);
        if (answer.kind === 'READY') return answer.untilMs - TURN_MS;
        assert.ok(answer.kind === 'WAITING');
        return answer.now.getTime() + answer.waitMs;
      };
      // What the rate before the old one called, was called before the old one began.
      for (const ticket of [0, 1, 2]) assert.equal(await calledAt(ticket), oldAt, `ticket ${ticket}`);
      assert.equal(await calledAt(3), oldAt + 1_000);
      for (const ticket of [4, 5, 8, 9])
        assert.equal(await calledAt(ticket), at + (ticket - 4) * 500, `ticket ${ticket}`);
    });

    it('gives tickets before the start of an open sale, and calls them from the start on', async () => {
      const startsAt = new Date(Date.now() + 4_000);
      const itemId = await open(2, { startsAt });
      for (const n of [0, 1, 2]) {
        const entry = await enter(itemId, n);
        assert.ok(entry.kind === 'WAITING' && entry.ahead === n && entry.waitMs >= n * 500, entry.kind);
        assert.equal(entry.waitMs, startsAt.getTime() - entry.serverTime.getTime() + n * 500);
      }
      // A change before the start neither admits users earlier nor delays them.
      await setRate(itemId, 1);
      const second = await enter(itemId, 1);
      assert.ok(second.kind === 'WAITING');
      assert.equal(second.waitMs, startsAt.getTime() - second.serverTime.getTime() + 1_000);
      const called = await eventually('the first is called', async () => {
        const entry = await enter(itemId, 0);
        return entry.kind === 'READY' && entry;
      });
      assert.ok(called.serverTime >= startsAt);
      const next = await enter(itemId, 1);
      const isDue = next.serverTime.getTime() >= startsAt.getTime() + 1_000;
      assert.equal(next.kind, isDue ? 'READY' : 'WAITING');
    });

    it('refuses users beyond its capacity, but none who has a ticket', async () => {
      const itemId = await open(1);
      const ask = await asker(itemId, { capacity: 2 });
      assert.deepEqual(kinds(await Promise.all([0, 1, 2, 3].map((n) => ask(n)))), [
        'READY',
        'WAITING',
        'WAITING',
        'FULL',
      ]);
      assert.equal((await ask(2)).kind, 'WAITING');
      await pass(itemId, 1_000);
      assert.equal((await ask(3)).kind, 'WAITING');
      assert.equal((await tickets(itemId)).size, 4);
    });

    it('forgets users who never came back', async () => {
      const itemId = await open(1_000_000);
      const ask = await asker(itemId);
      for (let n = 0; n < 60; n++) await ask(n);
      await pass(itemId, TURN_MS);
      for (let n = 60; n < 75; n++) await ask(n);
      assert.equal((await tickets(itemId)).size, 15);
      const { waitingRoom: line, tickets: places } = keysOf(itemId);
      for (const key of [line, places]) assert.ok((await replica.redis.commands.pttl(key)) > 86_000_000);
      await replica.sales.close(itemId);
      assert.equal(await replica.redis.commands.exists(line, places), 0);
    });

    it('tells waiting users at once that all units are sold or the sale is over', async () => {
      const itemId = await open(1, { total: 1n });
      const [first, second] = [await enter(itemId, 1), await enter(itemId, 2)];
      assert.ok(first.kind === 'READY' && second.kind === 'WAITING');
      assert.equal((await replica.buy(itemId, 1, '', first.token)).kind, 'QUEUED');
      assert.deepEqual(kinds([await enter(itemId, 2), await enter(itemId, 3)]), ['SOLD_OUT', 'SOLD_OUT']);
      await eventually('it is known as sold for good', async () => {
        const entry = await enter(itemId, 2);
        return entry.kind === 'SOLD_OUT' && !entry.mayReturn && entry.askAgainMs === undefined;
      });
      await replica.sales.close(itemId);
      assert.equal((await enter(itemId, 2)).kind, 'ENDED');
      // The next sale of the item has a waiting room of its own.
      const { sale } = await replica.sales.get(itemId);
      await replica.sales.create({ ...sale, startsAt: undefined, endsAt: undefined, admitRate: 1 });
      await replica.sales.open(itemId);
      await eventually('the next sale is known', async () => (await enter(itemId, 2)).kind === 'READY');
      assert.equal((await enter(itemId, 1)).kind, 'WAITING');
    });

    it('survives a reload of the sale, forms anew when Redis loses it, and oversells nothing either way', async () => {
      const TOTAL = 6;
      const itemId = await open(1, { total: BigInt(TOTAL) });
      const all = Array.from({ length: 20 }, (_, n) => n);
      for (const n of all) await enter(itemId, n);
      const before = await tickets(itemId);
      await replica.loader.load(itemId);
      const leader = await enter(itemId, 0);
      assert.ok(leader.kind === 'READY');
      assert.deepEqual(await tickets(itemId), before);
      assert.equal((await replica.buy(itemId, 0, '', leader.token)).kind, 'QUEUED');
      await eventually('the first is an order', () => replica.idle(itemId));

      await Promise.all(replica.redis.masters().map((master) => master.flushdb()));
      await assert.rejects(enter(itemId, 1), isSaleUnavailable);
      assert.deepEqual((await replica.schedule.reconcile()).failures, []);
      const backwards = [...all].reverse();
      for (const n of backwards) await enter(itemId, n);
      assert.deepEqual([...(await tickets(itemId)).keys()], backwards.map(user));
      await setRate(itemId, 1_000);
      const outcomes = await Promise.all(
        all.map((n) =>
          eventually(`user ${n} is through`, async () => {
            const entry = await enter(itemId, n, n % 2 === 0 ? replica : other);
            if (entry.kind !== 'READY') return entry.kind === 'SOLD_OUT' && entry.kind;
            return (await replica.buy(itemId, n, '', entry.token)).kind;
          }),
        ),
      );
      assert.equal(outcomes.filter((o) => o === 'QUEUED').length, TOTAL - 1);
      // Who had bought before is known by PostgreSQL.
      assert.notEqual(outcomes[0], 'QUEUED');
      await eventually('the stream is empty', () => replica.idle(itemId));
      assert.equal((await replica.sales.get(itemId)).sale.sold, BigInt(TOTAL));
      assert.deepEqual(await replica.faultsOf(itemId), []);
    });

    it('refuses wrong arguments and keys before it writes anything', async () => {
      const itemId = await open(1);
      const keys = keysOf(itemId);
      const redis = replica.redis.commands;
      const epoch = String((await replica.sales.get(itemId)).sale.epoch);
      const run = (...args: string[]) => WAITING_ROOM.run(redis, keys, args);
      const wrong = [
        [],
        [epoch, user(1), '1000'],
        [epoch, 'x', '1000', '1'],
        [epoch, user(1), '0', '1'],
        [epoch, user(1), '1', '-1'],
      ];
      for (const args of wrong) await assert.rejects(run(...args), /KAIMAI/);
      assert.deepEqual(await run('999999', user(1), '1000', '1'), ['UNAVAILABLE']);
      await redis.set(keys.tickets, 'x');
      await assert.rejects(run(epoch, user(1), '1000', '1'), /WRONGTYPE/);
      assert.equal(await redis.exists(keys.waitingRoom), 0);
      await redis.del(keys.tickets);
      await redis.hset(keys.waitingRoom, 'sale_id', (await redis.hget(keys.meta, 'sale_id')) ?? '', 'rate', 'x');
      await assert.rejects(run(epoch, user(1), '1000', '1'), /KAIMAI unreadable: waiting_room holds no number/);
    });
  });
}
