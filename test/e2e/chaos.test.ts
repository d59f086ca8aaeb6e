import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import pg from 'pg';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { KEY_DAMAGE, TABLE_DAMAGE } from '../chaos/damage.js';
import { both, FAULTS, type Fault } from '../chaos/faults.js';
import { contradictions, type History } from '../chaos/oracle.js';
import { Round } from '../chaos/round.js';
import { Stage } from '../chaos/stage.js';
import { openPostgres } from '../support/instances.js';

const SEED = Number(process.env.KAIMAI_CHAOS_SEED ?? Date.now() % 1_000_000);
/** Of `make chaos`, which has all of them. */
const SHORT = [['product killed', 'connections reset'], ['FLUSHALL']];

function faultNamed([first = '', second]: readonly string[]): Fault {
  const find = (name: string) => FAULTS.find((f) => f.name === name)!;
  return second === undefined ? find(first) : both(find(first), find(second));
}

describe('chaos, a short round (make chaos has the long one)', () => {
  let stage: Stage;
  let history: History;
  let itemId: bigint;

  before(async function () {
    // The rounds kill all three servers: not those that were given by URL or run in containers.
    if (!Stage.available) this.skip();
    stage = await Stage.open();
  });
  after(() => stage?.close());

  SHORT.forEach((names, number) => {
    it(`keeps every promise: ${names.join(' + ')}, seed ${SEED}`, async () => {
      const round = new Round(stage, faultNamed(names), SEED, number, { maxFaultMs: 2_000 });
      try {
        const result = await round.run();
        assert.deepEqual(result.contradictions.slice(0, 20), []);
        assert.ok(result.queued > 0);
        history = result.history;
        itemId = history.purchases.find((p) => p.offer.plenty)!.offer.itemId;
      } finally {
        await round.close();
      }
    });
  });

  describe('the check itself reports', () => {
    let server: pg.Client;
    let redis: RedisServer;
    let raw: Redis;

    before(async function () {
      // The damage needs the history of a round. Without one a round has failed already, or none could run.
      if (!history) this.skip();
      await stage.stopProcesses();
      const admin = new URL(stage.postgres.url);
      admin.pathname = '/postgres';
      server = new pg.Client({ connectionString: admin.href });
      await server.connect();
      redis = new RedisServer({ addr: stage.redis.url, readTimeoutMs: 5_000, connectTimeoutMs: 5_000, keyPrefix: '' });
      raw = new Redis(stage.redis.url);
      await redis.ready(5_000);
    });
    after(async () => {
      raw?.disconnect();
      redis?.close();
      await server?.end();
    });

    /** On a copy of the database, so that the next damage finds it whole. */
    async function found(sql?: string): Promise<string[]> {
      const original = new URL(stage.postgres.url).pathname.slice(1);
      await server.query(`CREATE DATABASE damaged TEMPLATE ${original}`);
      const copy = new URL(stage.postgres.url);
      copy.pathname = '/damaged';
      try {
        if (sql !== undefined) {
          const client = new pg.Client({ connectionString: copy.href });
          await client.connect();
          try {
            // Damage does not ask whether constraints and foreign keys allow it.
            await client.query('SET session_replication_role = replica');
            const { rowCount } = await client.query(sql);
            assert.ok(rowCount, 'there is nothing to damage');
            // Otherwise the statistics alone would report it.
            await client.query('SELECT order_stats_recount()');
          } finally {
            await client.end();
          }
        }
        const db = openPostgres(copy.href, 'kaimai_product');
        try {
          return await contradictions(history, db, redis);
        } finally {
          await db.close();
        }
      } finally {
        await server.query('DROP DATABASE damaged WITH (FORCE)');
      }
    }

    it('nothing where nothing is damaged', async () => {
      assert.deepEqual(await found(), []);
    });

    for (const { name, sql } of TABLE_DAMAGE) {
      it(`that ${name}`, async () => {
        assert.notDeepEqual(await found(sql), []);
      });
    }

    for (const { name, damage } of KEY_DAMAGE) {
      it(`in Redis: ${name}`, async () => {
        const keys = await raw.keys('*');
        const dumps = await Promise.all(keys.map((key) => raw.dumpBuffer(key)));
        try {
          await damage(raw, itemId);
          assert.notDeepEqual(await found(), []);
        } finally {
          await raw.flushall();
          await Promise.all(keys.map((key, i) => raw.restore(key, 0, dumps[i]!)));
        }
      });
    }
  });
});
