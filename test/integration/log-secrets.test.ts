import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { projectRoot } from '../../internal/local/project.js';
import { freePort } from '../../internal/local/servers/ports.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const SECRET = 'hush-0123456789-0123456789-0123456789';
const PROCESS_SECRETS = {
  KAIMAI_AUTH_INTERNAL_TOKEN: `${SECRET}-internal`,
  KAIMAI_AUTH_BFF_TOKEN: `${SECRET}-bff`,
  KAIMAI_AUTH_ADMIN_TOKEN: `${SECRET}-admin`,
  KAIMAI_AUTH_JWT_SECRET: `${SECRET}-jwt`,
  KAIMAI_SECKILL_TOKEN_SECRET: `${SECRET}-purchase`,
  KAIMAI_CART_GUEST_TOKEN_SECRET: `${SECRET}-guest`,
  KAIMAI_PAYMENT_SECRET: `${SECRET}-payment`,
};

const JSON_TYPE = { 'content-type': 'application/json' };

describe('No secret reaches the log of a process', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');

  /** Runs the product process until `enough` is true of what it has written, and returns all that it wrote. */
  async function run(env: Record<string, string>, enough: (text: string, http: string) => Promise<boolean> | boolean) {
    const [http, grpc] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const child = spawn(
      process.execPath,
      [join(projectRoot, 'dist/cmd/product/main.js'), '-conf', 'configs/product.yaml'],
      {
        cwd: projectRoot,
        env: {
          ...process.env,
          ...servers.env(),
          ...PROCESS_SECRETS,
          KAIMAI_SERVER_HTTP_ADDR: http,
          KAIMAI_SERVER_GRPC_ADDR: grpc,
          KAIMAI_SERVER_METRICS_ADDR: `127.0.0.1:${await freePort()}`,
          KAIMAI_LOG_LEVEL: 'trace',
          ...env,
        },
      },
    );
    let text = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
    }
    // Unlike 'exit', after the last of its lines.
    const ended = new Promise((resolve) => child.once('close', resolve));
    try {
      await eventually('the lines of the process', async () => child.exitCode !== null || (await enough(text, http)));
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
    return text;
  }

  const withPassword = (url: string, user: string) => {
    const wrong = new URL(url);
    [wrong.username, wrong.password] = [user, SECRET];
    return wrong.href;
  };

  it('when Redis refuses the password', async () => {
    const redis = new Redis(servers.redisUrl);
    let text = '';
    try {
      await redis.call('ACL', 'SETUSER', 'kaimai-log-test', 'on', '>another-password', '~*', '+@all');
      const url = withPassword(servers.redisUrl, 'kaimai-log-test');
      text = await run({ KAIMAI_REDIS_URL: url }, (seen) => seen.includes('a connection to Redis failed'));
      await redis.call('ACL', 'DELUSER', 'kaimai-log-test');
    } finally {
      redis.disconnect();
    }
    assert.match(text, /WRONGPASS.*a connection to Redis failed/);
    assert.ok(!text.includes('hush'), text);
  });

  it('when RabbitMQ refuses the password, or its URL is none', async () => {
    const url = withPassword(servers.rabbitmqUrl, 'kaimai-log-test');
    const refused = await run({ KAIMAI_RABBITMQ_URL: url }, (seen) => seen.includes('RabbitMQ is unavailable'));
    assert.match(refused, /RabbitMQ is unavailable/);
    const invalid = await run({ KAIMAI_RABBITMQ_URL: `amqp://u:${SECRET}@h:port` }, (seen) =>
      /RabbitMQ|rabbitmq/.test(seen),
    );
    assert.match(invalid, /rabbitmq/i);
    assert.ok(!(refused + invalid).includes('hush'), refused + invalid);
  });

  it('when PostgreSQL refuses the login, or its URL is none', async () => {
    const url = withPassword(servers.postgresUrl, 'kaimai-log-test');
    const refused = await run({ KAIMAI_POSTGRES_URL: url }, (seen) => seen.includes('kaimai-log-test'));
    assert.match(refused, /kaimai-log-test/);
    const invalid = await run({ KAIMAI_POSTGRES_URL: `postgres://u:${SECRET}@h:port/d` }, (seen) => seen.length > 0);
    assert.notEqual(invalid, '');
    assert.ok(!(refused + invalid).includes('hush'), refused + invalid);
  });

  it('when callers send secrets that are valid, wrong or misplaced', async () => {
    let asked = false;
    const text = await run({}, async (seen, http) => {
      if (!asked && seen.includes('"msg":"serving"')) {
        asked = true;
        for (const [path, headers] of [
          ['/v1/orders', { 'x-admin-token': PROCESS_SECRETS.KAIMAI_AUTH_ADMIN_TOKEN }],
          ['/v1/orders', { 'x-admin-token': `${SECRET}-wrong` }],
          ['/v1/orders', { 'x-internal-token': `${SECRET}-wrong` }],
          ['/v1/orders', { 'x-user-id': '7', 'x-bff-token': `${SECRET}-wrong` }],
          ['/v1/orders', { authorization: `Bearer ${SECRET}` }],
          [`/v1/orders?token=${SECRET}`, {}],
        ] as [string, Record<string, string>][]) {
          await (await fetch(`http://${http}${path}`, { headers })).arrayBuffer();
        }
        const login = {
          method: 'POST',
          headers: JSON_TYPE,
          body: JSON.stringify({ username: 'ann', password: SECRET }),
        };
        await (await fetch(`http://${http}/v1/sessions`, login)).arrayBuffer();
        const paid = {
          method: 'POST',
          body: '{}',
          headers: { ...JSON_TYPE, 'x-payment-timestamp': '1', 'x-payment-signature': SECRET },
        };
        await (await fetch(`http://${http}/v1/orders/1/paid`, paid)).arrayBuffer();
      }
      return seen.includes('OrderService/MarkOrderPaid');
    });
    assert.match(text, /OrderService\/ListOrders.*UNAUTHENTICATED/);
    assert.match(text, /UserService\/Login/);
    assert.ok(!text.includes('hush'), text);
  });
});
