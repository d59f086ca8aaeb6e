import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { Registry } from 'prom-client';
import { unavailable } from '../../gen/common/v1/errors.js';
import { ReadPositions } from '../../internal/biz/read-positions.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { ReadCounts, ReplicaReads } from '../../internal/data/postgres/reads.js';
import { UserPositions } from '../../internal/data/postgres/user-positions.js';
import { SilentLogger } from '../../internal/kratos/log/logger.js';
import { Metrics } from '../../internal/kratos/metrics/metrics.js';
import { freshUser } from '../contract/backend.js';
import { MemoryReadPositions } from '../support/memory/read-positions.js';
import { OwnPostgres } from '../support/own-postgres.js';
import { eventually } from '../support/wait.js';

const INSERT = { name: 'test_insert_note', text: 'INSERT INTO notes (user_id, text) VALUES ($1, $2)' };
const LIST = { name: 'test_list_notes', text: 'SELECT text FROM notes WHERE user_id = $1 ORDER BY id' };
const ALL = { name: 'test_all_notes', text: 'SELECT count(*)::int AS n FROM notes' };
const WAIT_MS = 50;

class NoReadPositions extends ReadPositions {
  override async raise(): Promise<void> {
    throw unavailable('away');
  }

  override async find(): Promise<never> {
    throw unavailable('away');
  }
}

/** What one replica of a process has of it. */
interface Replica {
  readonly db: Postgres;
  readonly reads: ReplicaReads;
  write(userId: string, text: string): Promise<void>;
  list(userId: string): Promise<string[]>;
  /** Reads since the last call, by outcome. */
  outcomes(): Promise<Record<string, number>>;
  close(): Promise<void>;
}

describe('a read replica of PostgreSQL', () => {
  let primary: OwnPostgres;
  let standby: OwnPostgres;
  const opened: Replica[] = [];

  before(async function () {
    // It stops and promotes servers, so it needs the programs of PostgreSQL, not one given by URL.
    if (!OwnPostgres.available) this.skip();
    primary = await OwnPostgres.start();
    await primary.query('CREATE TABLE notes (id BIGSERIAL PRIMARY KEY, user_id UUID NOT NULL, text TEXT NOT NULL)');
    standby = await primary.standby();
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((replica) => replica.close()));
  });
  after(async () => {
    await Promise.all([standby?.close(), primary?.close()]);
  });

  async function open(
    positions: ReadPositions = new MemoryReadPositions(60_000),
    options: { readonly maxLagMs?: number; readonly waitMs?: number } = {},
  ): Promise<Replica> {
    const settings = { role: '', poolSize: 3, statementTimeoutMs: 5_000, connectTimeoutMs: 3_000 };
    const db = new Postgres({ ...settings, source: primary.url, applicationName: 'test' });
    const source = `${standby.url}?target_session_attrs=standby`;
    const logger = new SilentLogger();
    const users = new UserPositions(positions, 60_000, logger);
    db.writtenFor = (userIds, position) => users.raise(userIds, position);
    const registry = new Registry();
    const reads = new ReplicaReads(
      db,
      new Postgres({ ...settings, source, target: 'standby', applicationName: 'test-reads' }),
      users,
      { maxLagMs: options.maxLagMs ?? 60_000, waitMs: options.waitMs ?? WAIT_MS },
      logger,
      new ReadCounts(new Metrics(registry, 'shop')),
    );
    const seen: Record<string, number> = {};
    const replica: Replica = {
      db,
      reads,
      write: (userId, text) =>
        db.run(async (tx) => {
          db.writesFor(tx, [userId]);
          await db.query(INSERT, [userId, text], tx);
        }),
      list: async (userId) => (await reads.query<{ text: string }>(userId, LIST, [userId])).rows.map((r) => r.text),
      outcomes: async () => {
        const lines = (await registry.metrics()).matchAll(/replica_reads_total\{outcome="(\w+)"\} (\d+)/g);
        const now = Object.fromEntries(Array.from(lines, ([, outcome, n]) => [outcome ?? '', Number(n)] as const));
        const since = Object.entries(now).map(([outcome, n]) => [outcome, n - (seen[outcome] ?? 0)] as const);
        Object.assign(seen, now);
        return Object.fromEntries(since.filter(([, n]) => n > 0));
      },
      close: async () => {
        await reads.close();
        await db.close();
      },
    };
    opened.push(replica);
    reads.open();
    // Until the primary was asked once, it is not known what the replica lacks.
    await eventually('the replica answers', async () => {
      await reads.query(freshUser(), LIST, [freshUser()]);
      return 'replica' in (await replica.outcomes());
    });
    return replica;
  }

  const pause = () => standby.query('SELECT pg_wal_replay_pause()');
  const resume = () => standby.query('SELECT pg_wal_replay_resume()');

  it('shows each user the last write at once, at every replica of the process, while it lags', async () => {
    const shared = new MemoryReadPositions(60_000);
    const [one, other] = [await open(shared), await open(shared)];
    const [writer, stranger] = [freshUser(), freshUser()];
    await pause();
    try {
      await one.write(writer, 'first');
      assert.deepEqual(await one.list(writer), ['first']);
      assert.deepEqual(await other.list(writer), ['first']);
      assert.deepEqual(await one.outcomes(), { behind: 1 });
      assert.deepEqual(await other.outcomes(), { behind: 1 });
      // Those for whom nothing was written need not wait.
      assert.deepEqual(await other.list(stranger), []);
      assert.deepEqual(await other.outcomes(), { replica: 1 });
      // What has no user shows every write.
      const { rows } = await other.reads.query<{ n: number }>(undefined, ALL, []);
      assert.equal(rows[0]?.n, 1);
      assert.deepEqual(await other.outcomes(), { behind: 1 });
    } finally {
      await resume();
    }
    await primary.inStep();
    for (const replica of [one, other]) {
      assert.deepEqual(await replica.list(writer), ['first']);
      assert.deepEqual(await replica.outcomes(), { replica: 1 });
    }
  });

  it('is waited for as long as it may take, and then answers', async () => {
    const replica = await open(undefined, { waitMs: 20_000 });
    const user = freshUser();
    await pause();
    await replica.write(user, 'late');
    const listed = replica.list(user);
    await sleep(50);
    await resume();
    assert.deepEqual(await listed, ['late']);
    assert.deepEqual(await replica.outcomes(), { replica: 1 });
  });

  it('is not asked by anyone once it is too far behind', async () => {
    const replica = await open(undefined, { maxLagMs: 1_000 });
    await pause();
    try {
      await replica.write(freshUser(), 'unseen');
      const stranger = freshUser();
      await eventually('strangers’ lists go to the primary', async () => {
        await replica.list(stranger);
        return 'behind' in (await replica.outcomes());
      });
    } finally {
      await resume();
    }
    await eventually('it answers again', async () => {
      await replica.list(freshUser());
      return 'replica' in (await replica.outcomes());
    });
  });

  it('answers nothing of users while it is unknown what was written for them', async () => {
    const shared = new MemoryReadPositions(60_000);
    const unknown = await open(shared);
    const away = new NoReadPositions();
    shared.find = () => away.find();
    shared.raise = () => away.raise();
    await unknown.outcomes();
    const user = freshUser();
    await unknown.write(user, 'kept');
    assert.deepEqual(await unknown.list(user), ['kept']);
    assert.deepEqual(await unknown.outcomes(), { behind: 1 });
  });

  it('is replaced by the primary while it is away, also in the middle of reads, and is asked again afterwards', async () => {
    const replica = await open();
    const user = freshUser();
    await replica.write(user, 'here');
    let reading = true;
    let failures = 0;
    const lanes = Array.from({ length: 4 }, async () => {
      while (reading) {
        const listed = await replica.list(user).catch(() => undefined);
        if (listed?.join() !== 'here') failures += 1;
        await sleep(1);
      }
    });
    await eventually('the replica answers', async () => 'replica' in (await replica.outcomes()));
    await standby.kill();
    await eventually('the primary answers', async () => 'away' in (await replica.outcomes()));
    await standby.restart();
    await eventually('the replica answers again', async () => 'replica' in (await replica.outcomes()));
    reading = false;
    await Promise.all(lanes);
    assert.equal(failures, 0);
  });
});
