import assert from 'node:assert/strict';
import pg from 'pg';
import { isUnavailable } from '../../../gen/common/v1/errors.js';
import { FaultProxy } from '../../../test/support/fault-proxy.js';
import { useServers } from '../../../test/support/servers.js';
import { eventually } from '../../../test/support/wait.js';
import { AdvisoryLocks } from './advisory-locks.js';
import { LeasedIdGenerator } from './id-generator.js';
import { LeasedName } from './leased-name.js';

describe('AdvisoryLocks', () => {
  const servers = useServers('postgres');
  const opened: AdvisoryLocks[] = [];
  const open = (url = servers.postgresUrl): AdvisoryLocks => {
    const locks = new AdvisoryLocks(url, 5_000);
    opened.push(locks);
    return locks;
  };
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((locks) => locks.close()));
  });

  it('gives each of two replicas with one name a name of its own', async () => {
    const names = [new LeasedName(open(), 'product-a-0'), new LeasedName(open(), 'product-a-0')];
    assert.deepEqual((await Promise.all(names.map((n) => n.hold()))).sort(), ['product-a-0', 'product-a-0.1']);
  });

  it('gives a replica that starts again its name back', async () => {
    const before = open();
    assert.equal(await new LeasedName(before, 'product-b-0').hold(), 'product-b-0');
    await before.close();
    assert.equal(await new LeasedName(open(), 'product-b-0').hold(), 'product-b-0');
  });

  it('gives nothing while the connection is lost, and the same name afterwards', async () => {
    const proxy = await FaultProxy.open(servers.postgresUrl);
    try {
      const other = new LeasedName(open(), 'product-c-0');
      assert.equal(await other.hold(), 'product-c-0');
      const locks = open(proxy.url(servers.postgresUrl));
      const name = new LeasedName(locks, 'product-c-0');
      const ids = new LeasedIdGenerator(locks);
      assert.equal(await name.hold(), 'product-c-0.1');
      await ids.open();
      ids.nextId();
      proxy.refuse = true;
      proxy.reset();
      await eventually('the name is gone', () => name.hold().then(() => false, isUnavailable));
      assert.throws(() => ids.nextId(), isUnavailable);
      proxy.refuse = false;
      assert.equal(await eventually('the name is back', () => name.hold()), 'product-c-0.1');
      await eventually('ids are back', () => ids.nextId());
    } finally {
      await opened.pop()?.close();
      await proxy.close();
    }
  });

  it('lets go of its locks when the server takes no writes any more', async () => {
    const admin = new pg.Client({ connectionString: servers.postgresUrl });
    await admin.connect();
    const database = new URL(servers.postgresUrl).pathname.slice(1);
    try {
      const ids = new LeasedIdGenerator(open());
      await ids.open();
      ids.nextId();
      await admin.query(`ALTER DATABASE ${database} SET default_transaction_read_only = on`);
      // What a session was begun with stands, so it has to begin anew.
      await admin.query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'kaimai-locks'",
      );
      await eventually('no ids', () => {
        try {
          ids.nextId();
          return false;
        } catch (err) {
          return isUnavailable(err);
        }
      });
      await admin.query(`ALTER DATABASE ${database} RESET default_transaction_read_only`);
      await eventually('ids again', () => ids.nextId());
    } finally {
      await admin.end();
    }
  });
});
