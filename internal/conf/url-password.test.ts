import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import pg from 'pg';
import { withPassword } from './url-password.js';

const PASSWORD = `p@ss/w:o#r%d?&=+ "'\\ü%41`;

describe('withPassword', () => {
  it('gives PostgreSQL a password of any characters', () => {
    const client = new pg.Client({ connectionString: withPassword('postgres://product@db:5432/product_db', PASSWORD) });
    const { user, password, host, port, database } = client;
    assert.deepEqual(
      { user, password, host, port, database },
      { user: 'product', password: PASSWORD, host: 'db', port: 5432, database: 'product_db' },
    );
  });

  it('gives Redis a password of any characters, by URL and by host:port', () => {
    for (const addr of ['redis://cache:6380/2', 'cache:6380']) {
      const { options } = new Redis(withPassword(addr, PASSWORD), { lazyConnect: true });
      assert.equal(options.password, PASSWORD);
      assert.equal(`${options.host}:${options.port}`, 'cache:6380');
      assert.equal(options.db, addr.endsWith('/2') ? 2 : 0);
    }
  });

  it('gives RabbitMQ a password of any characters', () => {
    // amqplib decodes the parts of a URL like this.
    const url = new URL(withPassword('amqp://kaimai:old@mq:5672/a%2Fb', PASSWORD));
    assert.equal(decodeURIComponent(url.password), PASSWORD);
    assert.equal(url.pathname, '/a%2Fb');
  });

  it('leaves a URL as it is if no password is given', () => {
    assert.equal(withPassword('postgres://a:b@c/d', ''), 'postgres://a:b@c/d');
  });
});
