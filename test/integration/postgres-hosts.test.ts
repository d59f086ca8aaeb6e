import assert from 'node:assert/strict';
import { isUnavailable } from '../../gen/common/v1/errors.js';
import { AdvisoryLocks } from '../../internal/data/postgres/advisory-locks.js';
import { connectClient } from '../../internal/data/postgres/hosts.js';
import { LeasedName } from '../../internal/data/postgres/leased-name.js';
import { Postgres } from '../../internal/data/postgres/postgres.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { OwnPostgres } from '../support/own-postgres.js';
import { eventually } from '../support/wait.js';

const PORT = { name: 'test_port', text: 'SELECT inet_server_port() AS port' };
const WRITE = { name: 'test_write', text: 'CREATE TABLE IF NOT EXISTS written (one INT)' };

/** One URL for the hosts of several, as libpq writes it. */
function together(urls: readonly string[], query = ''): string {
  const first = new URL(urls[0]!);
  const hosts = urls.map((url) => new URL(url).host).join(',');
  return `postgres://${first.username}:${first.password}@${hosts}${first.pathname}${query}`;
}

const portOf = (url: string) => Number(new URL(url).port);

describe('a URL of PostgreSQL with several hosts', () => {
  let primary: OwnPostgres;
  let standby: OwnPostgres;
  let primaryUrl: string;
  let standbyUrl: string;
  let dead: string;
  const opened: Postgres[] = [];

  before(async function () {
    // It stops and promotes servers, so it needs the programs of PostgreSQL, not one given by URL.
    if (!OwnPostgres.available) this.skip();
    primary = await OwnPostgres.start();
    standby = await primary.standby();
    [primaryUrl, standbyUrl] = [primary.url, standby.url];
    dead = `postgres://127.0.0.1:${await freePort()}/product_db`;
  });
  after(async () => {
    await Promise.all(opened.map((db) => db.close()));
    await Promise.all([primary?.close(), standby?.close()]);
  });

  function open(source: string): Postgres {
    const db = new Postgres({
      source,
      poolSize: 3,
      role: '',
      statementTimeoutMs: 5_000,
      connectTimeoutMs: 3_000,
      applicationName: 'test',
    });
    opened.push(db);
    return db;
  }

  const portSeenBy = async (db: Postgres) => (await db.query<{ port: number }>(PORT, [])).rows[0]?.port;
  const withDead = (urls: string[], query?: string) => {
    const [first = ''] = urls;
    const dummy = new URL(first);
    dummy.host = new URL(dead).host;
    return together([dummy.href, ...urls], query);
  };

  it('leads to the host that takes writes, past one that is away and a standby', async () => {
    const db = open(withDead([standbyUrl, primaryUrl], '?target_session_attrs=read-write'));
    const seen = await Promise.all(Array.from({ length: 6 }, () => portSeenBy(db)));
    assert.deepEqual([...new Set(seen)], [portOf(primaryUrl)]);
    await db.query(WRITE, []);
    const client = await connectClient(withDead([standbyUrl, primaryUrl]));
    await client.query(WRITE.text);
    await client.end();
  });

  it('leads to a standby where one is wanted, and nowhere where there is none', async () => {
    const db = open(withDead([primaryUrl, standbyUrl], '?target_session_attrs=standby'));
    assert.equal(await portSeenBy(db), portOf(standbyUrl));
    const none = open(withDead([primaryUrl], '?target_session_attrs=standby'));
    await assert.rejects(none.query(PORT, []), isUnavailable);
  });

  it('leads to the promoted server, with the locks, and never back to the one that it replaced', async () => {
    const db = open(together([primaryUrl, standbyUrl]));
    const locks = new AdvisoryLocks(db.hosts, 3_000);
    const name = new LeasedName(locks, 'replica');
    try {
      assert.equal(await portSeenBy(db), portOf(primaryUrl));
      await name.hold();
      await primary.kill();
      await assert.rejects(db.query(WRITE, []), isUnavailable);
      await standby.promote();
      await eventually('it takes writes', () => db.query(WRITE, []));
      assert.equal(await portSeenBy(db), portOf(standbyUrl));
      await eventually('the name is held', () => name.hold());
      // The old one comes back and takes writes; the promoted one goes away.
      await primary.restart();
      await standby.kill();
      await eventually('no server is left', () => db.ping().then(() => false, isUnavailable));
      for (let i = 0; i < 8; i++) await assert.rejects(db.query(WRITE, []), isUnavailable);
      await eventually('the name is lost', () => name.hold().then(() => false, isUnavailable));
      await standby.restart();
      await eventually('it takes writes again', () => db.query(WRITE, []));
      assert.equal(await portSeenBy(db), portOf(standbyUrl));
    } finally {
      await locks.close();
    }
  });
});

describe('a primary that is frozen', () => {
  let primary: OwnPostgres;
  let standby: OwnPostgres;

  before(async function () {
    // It freezes and promotes servers of its own, so it needs the programs of PostgreSQL.
    if (!OwnPostgres.available) this.skip();
    primary = await OwnPostgres.start();
    standby = await primary.standby();
  });
  after(async () => {
    primary?.resume();
    await Promise.all([primary?.close(), standby?.close()]);
  });

  it('loses the connections that are in use when the promoted server is found', async () => {
    const db = new Postgres({
      source: together([primary.url, standby.url]),
      poolSize: 3,
      role: '',
      // Nothing ends the wait but the loss of the connection.
      statementTimeoutMs: 3_600_000,
      connectTimeoutMs: 1_000,
      applicationName: 'test',
    });
    const locks = new AdvisoryLocks(db.hosts, 1_000);
    const name = new LeasedName(locks, 'replica');
    try {
      await Promise.all([db.query(PORT, []), db.query(PORT, []), db.query(PORT, []), name.hold()]);
      primary.pause();
      const statements = [db.query(PORT, []), db.query(PORT, [])].map((it) => assert.rejects(it, isUnavailable));
      const transaction = db.run((tx) => db.query<{ port: number }>(PORT, [], tx));
      await standby.promote();
      await Promise.all(statements);
      assert.equal((await transaction).rows[0]?.port, portOf(standby.url), 'the transaction was not repeated there');
      await eventually('the name is held', () => name.hold());
      primary.resume();
      await db.query(WRITE, []);
      const [row] = await primary.query<{ it: string | null }>("SELECT to_regclass('written')::text AS it");
      assert.equal(row?.it, null, 'the primary that was replaced was written to');
    } finally {
      await locks.close();
      await db.close();
    }
  });
});
