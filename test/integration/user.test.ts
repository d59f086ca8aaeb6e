import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { SignJWT } from 'jose';
import pg from 'pg';
import { RedisLoginAttempts } from '../../internal/data/redis/login-attempts.js';
import { RedisServer } from '../../internal/data/redis/redis.js';
import { KeySpace } from '../../internal/data/redis/seckill-keys.js';
import { projectRoot } from '../../internal/local/project.js';
import { type TestProcess, useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';
import { eventually } from '../support/wait.js';

const JWT = { secret: 'a-secret-of-thirty-two-bytes-or-more', issuer: 'shop', audience: 'kaimai' };
const PASSWORD = 'Open-Sesame-4711';
const MAX_ATTEMPTS = 4;

interface Answer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly text: string;
  readonly retryAfter: string | null;
}

const LIMIT = { maxAttempts: 2, maxAttemptsPerAddress: 6, windowMs: 60_000 };

/** So slow that no token is added during a test. */
const RATE = { per_second: 0.0001, burst: 200 };

describe('users of the product process in auth.mode jwt', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();
  let product: TestProcess;
  let pool: pg.Pool;
  let spans = '';
  const collector = createServer((req, res) => {
    req.setEncoding('utf8').on('data', (text: string) => {
      spans += text;
    });
    req.on('end', () => res.writeHead(200, { 'content-type': 'application/json' }).end('{}'));
  });

  before(async () => {
    await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
    pool = new pg.Pool({ connectionString: servers.postgresUrl, max: 2 });
    product = await processes.start('product', {
      env: servers.env(),
      config: {
        auth: {
          mode: 'jwt',
          jwt: JWT,
          password: { queue: 3 },
          login: { max_attempts: MAX_ATTEMPTS },
          register_rate: RATE,
          login_rate: RATE,
        },
        server: { trusted_proxies: ['127.0.0.1'] },
        data: { rabbitmq: { queue: servers.queue('resource.instance.created') } },
        trace: { endpoint: `http://127.0.0.1:${(collector.address() as AddressInfo).port}/v1/traces` },
        log: { level: 'debug' },
      },
    });
  });
  after(async () => {
    await pool?.end();
    collector.closeAllConnections();
    await new Promise((resolve) => collector.close(resolve));
  });

  async function call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
    to = product,
  ) {
    const reply = await fetch(`http://${to.http}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await reply.text();
    const retryAfter = reply.headers.get('retry-after');
    return {
      status: reply.status,
      body: JSON.parse(text) as Record<string, unknown>,
      text,
      retryAfter,
    } satisfies Answer;
  }
  const register = (username: string, password = PASSWORD) => call('POST', '/v1/users', { username, password });
  const login = (username: string, password = PASSWORD) => call('POST', '/v1/sessions', { username, password });
  const bearer = (token: unknown) => ({ authorization: `Bearer ${token}` });
  const reasonOf = ({ status, body }: Answer) => `${status} ${body.reason}`;

  async function admin(): Promise<Record<string, string>> {
    const claims = { sub: '1', role: 'ADMIN', iss: JWT.issuer, aud: JWT.audience };
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256' })
      .setExpirationTime('5m')
      .sign(new TextEncoder().encode(JWT.secret));
    return bearer(token);
  }

  it('registers, logs in and buys with the token, and only with it', async () => {
    const made = await register('Ann.Lee');
    assert.equal(made.status, 200, made.text);
    assert.deepEqual(Object.keys(made.body).sort(), [
      ...['createdAt', 'firstName', 'id', 'lastName', 'updatedAt', 'username', 'version'],
    ]);
    assert.equal(reasonOf(await register('ann.lee')), '409 USERNAME_TAKEN');
    const { status, body: session } = await login('ANN.LEE');
    assert.deepEqual([status, session.userId], [200, made.body.id]);
    assert.ok(Date.parse(String(session.expiresAt)) > Date.now());

    const operator = await admin();
    const spec = await call('POST', '/v1/product-specs', { cpu: 1, memory: 1, image: 'x' }, operator);
    const plan = { name: 'p', priceFen: '100', specId: spec.body.id, status: 'ENABLED' };
    const { body: item } = await call('POST', '/v1/products', plan, operator);
    await call('POST', '/v1/sales', { itemId: item.id, total: '5' }, operator);
    assert.equal((await call('POST', `/v1/sales/${item.id}/open`, {}, operator)).status, 200);

    const wish = { itemId: item.id };
    const asHeader = { 'x-user-id': String(made.body.id) };
    assert.equal(reasonOf(await call('POST', '/v1/seckill', wish, asHeader)), '401 UNAUTHENTICATED');
    assert.equal(reasonOf(await call('POST', '/v1/seckill', wish, bearer('x.y.z'))), '401 UNAUTHENTICATED');
    const bought = await call('POST', '/v1/seckill', wish, bearer(session.token));
    assert.deepEqual([bought.status, bought.body.code], [200, 'QUEUED']);
    const { seckillId } = bought.body.data as { seckillId: string };
    await eventually('the order exists', async () => {
      const { body } = await call('GET', `/v1/seckill/${seckillId}`, undefined, bearer(session.token));
      return body.status === 'PAID';
    });
    const orders = await call('GET', '/v1/orders', undefined, bearer(session.token));
    assert.equal((orders.body.orders as { userId: string }[])[0]?.userId, made.body.id);
    await register('Other.User');
    const other = bearer((await login('other.user')).body.token);
    assert.equal(reasonOf(await call('GET', `/v1/seckill/${seckillId}`, undefined, other)), '404 PURCHASE_NOT_FOUND');
  });

  it('shows and changes the calling user by version', async () => {
    await register('bob');
    const mine = bearer((await login('bob')).body.token);
    assert.equal(reasonOf(await call('GET', '/v1/users/me')), '401 UNAUTHENTICATED');
    const me = await call('GET', '/v1/users/me', undefined, mine);
    assert.deepEqual([me.body.username, me.body.version, me.body.firstName], ['bob', '1', '']);
    const change = (body: object) => call('PATCH', '/v1/users/me', body, mine);
    assert.deepEqual((await change({ version: '1', firstName: 'Bob', lastName: '李' })).body.version, '2');
    assert.equal(reasonOf(await change({ version: '1', firstName: 'Rob' })), '409 USER_VERSION_CONFLICT');
    assert.equal(reasonOf(await change({ version: '2' })), '400 INVALID_ARGUMENT');
    assert.equal(reasonOf(await change({ version: '2', newPassword: 'a-new-password' })), '400 INVALID_ARGUMENT');
    const swap = { version: '2', newPassword: 'a-new-password' };
    assert.equal(reasonOf(await change({ ...swap, password: 'not-it' })), '401 INVALID_CREDENTIALS');
    assert.equal((await change({ ...swap, password: PASSWORD })).status, 200);
    assert.equal(reasonOf(await login('bob')), '401 INVALID_CREDENTIALS');
    assert.equal((await login('bob', 'a-new-password')).body.userId, me.body.id);
    const again = bearer((await login('bob', 'a-new-password')).body.token);
    const { body } = await call('GET', '/v1/users/me', undefined, again);
    assert.deepEqual([body.firstName, body.lastName, body.version], ['Bob', '李', '3']);
  });

  it('accepts no earlier token after a password change, and every token of other users', async () => {
    const resource = await processes.start('resource', {
      env: { ...servers.env(), ...product.env() },
      config: {
        auth: { mode: 'jwt', jwt: JWT },
        data: { rabbitmq: { queue: servers.queue('resource.instance.created') } },
      },
    });
    const instances = async (headers: Record<string, string>) =>
      (await call('GET', '/v1/instance-logs', undefined, headers, resource)).status;
    await register('erin');
    await register('frank');
    const [earlier, others] = [bearer((await login('erin')).body.token), bearer((await login('frank')).body.token)];
    const me = (headers: Record<string, string>) => call('GET', '/v1/users/me', undefined, headers);
    assert.equal(await instances(earlier), 200);
    const names = await call('PATCH', '/v1/users/me', { version: '1', firstName: 'Erin' }, earlier);
    assert.equal(names.status, 200);
    const change = { version: '2', password: PASSWORD, newPassword: 'a-new-password' };
    assert.equal((await call('PATCH', '/v1/users/me', change, earlier)).status, 200);
    await eventually('the earlier token is refused', async () => (await me(earlier)).status === 401);
    assert.match((await me(earlier)).text, /the token was revoked/);
    await eventually('the resource process refuses it', async () => (await instances(earlier)) === 401);
    assert.equal(await instances(others), 200);
    assert.equal((await me(bearer((await login('erin', 'a-new-password')).body.token))).status, 200);
    assert.equal((await me(others)).status, 200);
  });

  it('limits registrations and logins of an address, before a password is hashed', async () => {
    const from = (path: string, address: string, username: string) =>
      call('POST', path, { username, password: 'short' }, { 'x-forwarded-for': address });
    for (const path of ['/v1/users', '/v1/sessions']) {
      const calls = Array.from({ length: RATE.burst + 5 }, (_, i) => from(path, '198.51.100.1', `unknown${i}`));
      const refused = (await Promise.all(calls)).filter(({ body }) => body.reason === 'TOO_MANY_REQUESTS');
      assert.equal(refused.length, 5, path);
      assert.notEqual((await from(path, '198.51.100.2', 'unknown')).body.reason, 'TOO_MANY_REQUESTS');
    }
  });

  it('answers unknown names and wrong passwords alike, and blocks further attempts for a while', async () => {
    await register('carl');
    const wrong = await login('carl', 'wrong');
    assert.equal(reasonOf(wrong), '401 INVALID_CREDENTIALS');
    assert.equal((await login('unknown', 'wrong')).text, wrong.text);
    for (let i = 1; i < MAX_ATTEMPTS; i++) await login(i % 2 ? 'carl' : 'CARL', 'wrong');
    const late = await login('carl');
    assert.equal(reasonOf(late), '429 TOO_MANY_ATTEMPTS');
    const { retry_after_ms: waitMs } = late.body.metadata as Record<string, string>;
    assert.ok(Number(waitMs) > 0 && Number(waitMs) <= 900_000, `${waitMs} ms`);
    assert.equal(late.retryAfter, String(Math.ceil(Number(waitMs) / 1_000)));
    // From another address, according to the proxy.
    const elsewhere = { 'x-forwarded-for': '203.0.113.9' };
    const credentials = { username: 'carl', password: PASSWORD };
    assert.equal((await call('POST', '/v1/sessions', credentials, elsewhere)).status, 200);
  });

  it('hashes a bounded number of passwords at a time and rejects the rest', async () => {
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => login(`burst${i}`, 'wrong')));
    const reasons = new Set(answers.map(reasonOf));
    assert.deepEqual([...reasons].sort(), ['401 INVALID_CREDENTIALS', '429 PASSWORD_HASHING_BUSY']);
    assert.equal(reasonOf(await login('burst0', 'wrong')), '401 INVALID_CREDENTIALS');
  });

  it('accepts an imported md5 hash once', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'kaimai-users-'));
    const md5 = createHash('md5').update('123456').digest('hex');
    const lines = [
      'user_id,username,password_md5,last_name,created_at',
      `42,Old.Hand,${md5},"Hand, Old",2019-05-06T07:08:09Z`,
      `43,old.hand,${md5},,`,
      `${randomUUID()},x,${md5},,`,
    ];
    const file = join(dir, 'users.csv');
    writeFileSync(file, `${lines.join('\n')}\n`);
    const kaimai = (...args: string[]) =>
      promisify(execFile)(process.execPath, [join(projectRoot, 'dist/cmd/kaimai/main.js'), ...args], {
        env: { ...process.env, ...servers.env() },
        timeout: 120_000,
      }).catch((err: { stdout: string; stderr: string }) => err);
    const run = await kaimai('import-users', file);
    assert.match(run.stdout, /1 imported, 2 rejected/);
    assert.match(run.stderr, /record 2: the id or the name is taken\nrecord 3: username must have 2/);
    rmSync(dir, { recursive: true });

    const stored = async () => {
      const sql = 'SELECT user_id, password_hash, last_name, version, created_at FROM users WHERE username_key = $1';
      return (await pool.query(sql, ['old.hand'])).rows[0];
    };
    const before = await stored();
    assert.deepEqual([before.password_hash, before.last_name], [`$md5$${md5}`, 'Hand, Old']);
    assert.equal((before.created_at as Date).toISOString(), '2019-05-06T07:08:09.000Z');
    const sessions = await Promise.all([login('old.hand', '123456'), login('OLD.HAND', '123456')]);
    for (const { body } of sessions) assert.equal(body.userId, '00000000-0000-8000-8000-00000000002a');
    const after = await stored();
    assert.match(after.password_hash, /^\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    assert.equal(String(after.version), '2');
    assert.equal((await login('old.hand', '123456')).status, 200);
    assert.equal((await stored()).password_hash, after.password_hash);
    await assert.rejects(pool.query(`UPDATE users SET password_hash = '123456'`), { code: '23514' });
  });

  it('issues no tokens with only a public key, and says why', async () => {
    const { publicKey } = generateKeyPairSync('ed25519');
    const key = publicKey.export({ type: 'spki', format: 'pem' });
    const checker = await processes.start('product', {
      env: servers.env(),
      config: {
        auth: { mode: 'jwt', jwt: { ...JWT, algorithm: 'EdDSA', public_key: key } },
        server: { roles: ['api'] },
      },
    });
    const answer = await call('POST', '/v1/sessions', { username: 'ann.lee', password: PASSWORD }, {}, checker);
    assert.equal(reasonOf(answer), '501 SIGNING_KEY_MISSING');
    assert.deepEqual(answer.body.metadata, { algorithm: 'EdDSA' });
  });

  it('counts no login attempts while Redis is unavailable, so that people can log in', async () => {
    const away = async (counter: RedisLoginAttempts) => {
      assert.equal(await counter.take('ann', '10.0.0.1'), undefined);
      await counter.uncount('ann', '10.0.0.1');
      await counter.clear('ann', '10.0.0.1');
    };
    const settings = { addr: servers.redisUrl, readTimeoutMs: 1_000, connectTimeoutMs: 1_000, keyPrefix: '' };
    const closed = new RedisServer(settings);
    closed.close();
    await away(new RedisLoginAttempts(closed, LIMIT));
    const refusing = (...errors: string[]) => {
      const aborted = Object.assign(new Error('EXECABORT Transaction discarded because of previous errors.'), {
        previousErrors: errors.map((message) => new Error(message)),
      });
      const multi = { set: () => multi, incr: () => multi, decr: () => multi, del: () => multi, pttl: () => multi };
      const exec = () => Promise.reject(aborted);
      const del = () => Promise.reject(new Error(errors[0]));
      const server = { keys: new KeySpace(''), commands: { multi: () => Object.assign(multi, { exec }), del } };
      return new RedisLoginAttempts(server as unknown as RedisServer, LIMIT);
    };
    await away(refusing("OOM command not allowed when used memory > 'maxmemory'."));
    await assert.rejects(away(refusing('NOPERM this user has no permissions')), /EXECABORT|NOPERM/);
  });

  it('writes no password into replies, logs or traces', async () => {
    const secret = `hunter2-${randomUUID()}`;
    const name = `dora.${randomUUID().slice(0, 8)}`;
    const bodies: readonly unknown[] = [
      { username: name, password: secret },
      { username: name, password: [secret] },
      { username: name, password: { [secret]: secret } },
      { username: name, password: secret.repeat(10) },
      { username: 'no spaces', password: secret },
      { username: [name], password: secret },
      { username: name, password: `${secret}\0` },
      `{"username":"${name}","password":"${secret}`,
      `{"username":"${name}","password":"${secret}\\ud800"}`,
      `{"username":"${name}","password":"${secret}","password":"${secret}"}`,
    ];
    const { body: session } = await login('bob', 'a-new-password');
    const replies = [];
    for (const body of bodies) {
      for (const path of ['/v1/users', '/v1/sessions']) replies.push(await call('POST', path, body));
    }
    replies.push(await login(name, `${secret}-wrong`));
    const change = { version: '3', password: secret, newPassword: `${secret}-new` };
    replies.push(await call('PATCH', '/v1/users/me', change, bearer(session.token)));
    assert.deepEqual([replies[0]?.status, replies[1]?.status], [200, 200]);
    assert.ok(replies.slice(2).every((r) => r.status >= 400 && r.status < 500));
    for (const { text } of replies) assert.ok(!text.includes(secret), text);

    assert.equal(await product.stop(), 'exited with code 0');
    const log = product.log();
    assert.match(log, /"operation":"\/user\.v1\.UserService\/Login".*INVALID_CREDENTIALS/);
    assert.match(spans, /user\.v1\.UserService\/Register/);
    assert.match(spans, /INSERT INTO users/);
    for (const [what, text] of Object.entries({ log, spans })) {
      for (const hidden of [secret, PASSWORD, '$argon2id', '$md5$', String(session.token)]) {
        const at = text.indexOf(hidden);
        assert.equal(at, -1, `${what}: ${text.slice(Math.max(0, at - 300), at + 100)}`);
      }
    }
  });
});
