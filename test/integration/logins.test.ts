import assert from 'node:assert/strict';
import pg from 'pg';
import { createLogins } from '../../internal/local/logins.js';
import { OwnPostgres } from '../support/own-postgres.js';

describe('The logins of services that `kaimai up` starts', () => {
  let server: OwnPostgres;

  before(async function () {
    // The logins are created by a superuser of its own server: not on one that was given by URL or runs in a container.
    if (!OwnPostgres.available) this.skip();
    server = await OwnPostgres.start();
  });
  after(() => server?.close());

  it('reach only what the role of their service may do', async () => {
    await createLogins(server.url, ['product', 'resource']);
    const urls = await createLogins(server.url, ['product', 'resource']);
    const refusals = { product: 'DELETE FROM instance_logs', resource: 'DELETE FROM orders' };
    for (const [name, url] of urls) {
      const client = new pg.Client({ connectionString: url });
      await client.connect();
      try {
        const { rows } = await client.query('SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user');
        assert.deepEqual(rows, [{ rolname: name, rolsuper: false }]);
        await client.query(`SET ROLE kaimai_${name}`);
        await client.query('SELECT count(*) FROM orders');
        await assert.rejects(client.query(refusals[name]), /permission denied/);
        const other = name === 'product' ? 'resource' : 'product';
        await assert.rejects(client.query(`SET ROLE kaimai_${other}`), /permission denied/);
      } finally {
        await client.end();
      }
    }
  });
});
