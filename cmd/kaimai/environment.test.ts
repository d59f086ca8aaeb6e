import assert from 'node:assert/strict';
import { databaseUrl, serverUrl } from './environment.js';

describe('The environment of the command line', () => {
  const before = { ...process.env };
  afterEach(() => {
    for (const name of ['KAIMAI_POSTGRES_URL', 'KAIMAI_POSTGRES_PASSWORD']) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  });

  it('names several hosts of PostgreSQL with one password', () => {
    process.env.KAIMAI_POSTGRES_URL = 'postgres://u@a:1,b:2/db?target_session_attrs=primary';
    process.env.KAIMAI_POSTGRES_PASSWORD = 'p@';
    assert.equal(serverUrl('POSTGRES'), 'postgres://u:p%40@a:1,b:2/db?target_session_attrs=primary');
  });

  it('says where hosts come from that make no sense', () => {
    process.env.KAIMAI_POSTGRES_URL = 'postgres://u@a,,b/db';
    process.env.KAIMAI_POSTGRES_PASSWORD = '';
    assert.throws(() => serverUrl('POSTGRES'), /^Error: KAIMAI_POSTGRES_URL has no host as number 2/);
    assert.throws(() => databaseUrl('postgres://a:1,b:x/db'), /^Error: --url has no host as number 2/);
  });
});
