import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { isUnauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../../biz/identity.js';
import type { Config } from '../../conf/config.js';
import type { Call } from '../../kratos/transport/call.js';
import { headerAuthenticator } from './auth.js';
import { jwtAuthenticator } from './jwt.js';

const SECRET = 'a secret of thirty-two bytes or more';
const USER = '00000000-0000-8000-8000-00000000007b';

type Claims = Record<string, unknown>;

function callWith(headers: Record<string, string>): Call {
  return { metadata: (name: string) => headers[name] } as Call;
}

function sign(claims: Claims, secret = SECRET): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
}

describe('jwtAuthenticator', () => {
  const good: Claims = { sub: '123', iss: 'shop', aud: 'kaimai', exp: Math.floor(Date.now() / 1000) + 600 };
  const jwt: Config['auth']['jwt'] = {
    algorithm: 'HS256',
    secret: SECRET,
    publicKey: '',
    privateKey: '',
    lifetimeMs: 60_000,
    issuer: 'shop',
    audience: 'kaimai',
    clockToleranceMs: 5_000,
  };
  const authenticate = jwtAuthenticator({ internalToken: 'a-token-for-this-test', jwt });
  const identityOf = async (headers: Record<string, string>): Promise<Identity> => authenticate(callWith(headers));
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

  it('takes the user and the role from the claims, and from nowhere else', async () => {
    const token = await sign(good);
    assert.deepEqual(await identityOf(bearer(token)), { role: 'USER', userId: USER });
    assert.deepEqual(await identityOf({ ...bearer(token), 'x-user-id': '9', 'x-user-role': 'ADMIN' }), {
      role: 'USER',
      userId: USER,
    });
    assert.equal((await identityOf({ 'x-user-id': '9' })).role, 'ANONYMOUS');
    const admin = bearer(await sign({ ...good, role: 'ADMIN' }));
    assert.deepEqual(await identityOf(admin), { role: 'ADMIN', userId: USER });
    assert.match((await identityOf({ ...admin, 'x-user-id': '9' })).userId ?? '', /0009$/);
    assert.equal((await identityOf({ 'x-internal-token': 'a-token-for-this-test' })).role, 'INTERNAL');
  });

  it('refuses what does not hold', async () => {
    const { exp, ...endless } = good;
    assert.ok(exp);
    const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const unsigned = `${part({ alg: 'none' })}.${part(good)}.`;
    const other = `${part({ alg: 'HS512' })}.${part(good)}`;
    const cases: Record<string, string> = {
      'wrong secret': await sign(good, 'another secret of thirty-two bytes'),
      expired: await sign({ ...good, exp: Math.floor(Date.now() / 1000) - 60 }),
      'without expiry': await sign(endless),
      issuer: await sign({ ...good, iss: 'elsewhere' }),
      audience: await sign({ ...good, aud: 'others' }),
      'no user': await sign({ ...good, sub: 'ann' }),
      'without subject': await sign({ ...good, sub: undefined }),
      'not yet': await sign({ ...good, nbf: Math.floor(Date.now() / 1000) + 60 }),
      unsigned,
      'another algorithm': `${other}.${createHmac('sha512', SECRET).update(other).digest('base64url')}`,
      garbage: 'x.y.z',
    };
    for (const [name, token] of Object.entries(cases)) {
      await assert.rejects(identityOf(bearer(token)), isUnauthenticated, name);
    }
    await assert.rejects(identityOf({ authorization: 'Basic YTpi' }), isUnauthenticated);
  });

  it('forgets a remembered token when it expires', async () => {
    const strict = jwtAuthenticator({ internalToken: 'a-token-for-this-test', jwt: { ...jwt, clockToleranceMs: 0 } });
    const exp = Math.floor(Date.now() / 1000) + 2;
    const call = callWith(bearer(await sign({ ...good, exp })));
    assert.equal((await strict(call)).role, 'USER');
    await new Promise((resolve) => setTimeout(resolve, exp * 1000 - Date.now() + 1));
    await assert.rejects(async () => strict(call), isUnauthenticated);
  });

  for (const algorithm of ['RS256', 'EdDSA'] as const) {
    it(`checks ${algorithm} by the public key, which is no HMAC secret`, async () => {
      const { privateKey, publicKey } =
        algorithm === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ed25519');
      const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
      const check = jwtAuthenticator({
        internalToken: 'a-token-for-this-test',
        jwt: { ...jwt, algorithm, publicKey: pem },
      });
      const token = await new SignJWT(good).setProtectedHeader({ alg: algorithm }).sign(privateKey);
      assert.equal((await check(callWith(bearer(token)))).userId, USER);
      await assert.rejects(async () => check(callWith(bearer(await sign(good, pem)))), isUnauthenticated);
    });
  }
});

describe('headerAuthenticator', () => {
  it('believes identity headers only from the caller with the token, where there is one', async () => {
    const open = headerAuthenticator({ internalToken: 'a-token-for-this-test', bffToken: '' });
    assert.deepEqual(await open(callWith({ 'x-user-id': '123' })), { role: 'USER', userId: USER });
    const closed = headerAuthenticator({ internalToken: 'a-token-for-this-test', bffToken: 'the-token-of-the-bff' });
    const admin = { 'x-user-role': 'ADMIN' };
    for (const headers of [{ 'x-user-id': '123' }, admin, { ...admin, 'x-bff-token': 'the-token-of-the-bfg' }]) {
      await assert.rejects(async () => closed(callWith(headers)), isUnauthenticated);
    }
    assert.equal((await closed(callWith({ ...admin, 'x-bff-token': 'the-token-of-the-bff' }))).role, 'ADMIN');
    assert.equal((await closed(callWith({}))).role, 'ANONYMOUS');
  });
});
