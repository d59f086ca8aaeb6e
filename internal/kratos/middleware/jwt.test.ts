import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync } from 'node:crypto';
import { SignJWT } from 'jose';
import { hasReason } from '../errors/error.js';
import { UNAUTHENTICATED, unauthenticated } from '../errors/reasons.js';
import { bearerToken, type JwtOptions, jwtVerifier } from './jwt.js';

const SECRET = 'a secret of thirty-two bytes or more';

type Payload = Record<string, unknown>;

const isUnauthenticated = (err: unknown) => hasReason(err, UNAUTHENTICATED);

function sign(payload: Payload, secret = SECRET): Promise<string> {
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
}

describe('jwtVerifier', () => {
  const good: Payload = { sub: '123', iss: 'shop', aud: 'kaimai', exp: Math.floor(Date.now() / 1000) + 600 };
  const options: JwtOptions = {
    algorithm: 'HS256',
    secret: SECRET,
    publicKey: '',
    issuer: 'shop',
    audience: 'kaimai',
    clockToleranceMs: 5_000,
  };
  const verify = jwtVerifier(options, (claims) => claims.sub);

  it('maps the claims of a valid token, once for each token', async () => {
    let mapped = 0;
    const counting = jwtVerifier(options, ({ sub, role }) => {
      mapped++;
      return { sub, role };
    });
    const token = await sign({ ...good, role: 'ADMIN' });
    assert.deepEqual(await counting(token), { sub: '123', role: 'ADMIN' });
    assert.deepEqual(await counting(token), { sub: '123', role: 'ADMIN' });
    assert.equal(mapped, 1);
    assert.equal((await counting(await sign({ ...good, sub: '124' }))).sub, '124');
    assert.equal(mapped, 2);
  });

  it('rejects invalid tokens', async () => {
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
      'without subject': await sign({ ...good, sub: undefined }),
      'not yet valid': await sign({ ...good, nbf: Math.floor(Date.now() / 1000) + 60 }),
      unsigned,
      'another algorithm': `${other}.${createHmac('sha512', SECRET).update(other).digest('base64url')}`,
      garbage: 'x.y.z',
    };
    for (const [name, token] of Object.entries(cases)) await assert.rejects(verify(token), isUnauthenticated, name);
  });

  it('rejects a token whose claims cannot be mapped, each time', async () => {
    const picky = jwtVerifier(options, () => {
      throw unauthenticated('no such user');
    });
    const token = await sign(good);
    await assert.rejects(picky(token), isUnauthenticated);
    await assert.rejects(picky(token), isUnauthenticated);
  });

  it('forgets a remembered token when it expires', async () => {
    const strict = jwtVerifier({ ...options, clockToleranceMs: 0 }, (claims) => claims.sub);
    const exp = Math.floor(Date.now() / 1000) + 3;
    const token = await sign({ ...good, exp });
    assert.equal(await strict(token), '123');
    // A timer may fire some milliseconds early.
    await new Promise((resolve) => setTimeout(resolve, exp * 1000 - Date.now() + 20));
    await assert.rejects(strict(token), isUnauthenticated);
  });

  for (const algorithm of ['RS256', 'EdDSA'] as const) {
    it(`verifies ${algorithm} with the public key, and does not take that key for an HMAC secret`, async () => {
      const { privateKey, publicKey } =
        algorithm === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ed25519');
      const pem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
      const check = jwtVerifier({ ...options, algorithm, publicKey: pem }, (claims) => claims.sub);
      assert.equal(await check(await new SignJWT(good).setProtectedHeader({ alg: algorithm }).sign(privateKey)), '123');
      await assert.rejects(check(await sign(good, pem)), isUnauthenticated);
    });
  }
});

describe('bearerToken', () => {
  it('returns the token, whatever the case of the scheme', () => {
    assert.equal(bearerToken('Bearer a.b-c'), 'a.b-c');
    assert.equal(bearerToken('bearer a.b-c'), 'a.b-c');
  });

  it('rejects another scheme', () => {
    for (const header of ['Basic YTpi', 'Bearer', 'Bearer a b']) {
      assert.throws(() => bearerToken(header), isUnauthenticated, header);
    }
  });
});
