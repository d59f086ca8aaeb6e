import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { decodeJwt } from 'jose';
import { isUnauthenticated } from '../../../gen/common/v1/errors.js';
import { isSigningKeyMissing } from '../../../gen/user/v1/errors.js';
import type { Config } from '../../conf/config.js';
import type { Call } from '../../kratos/transport/call.js';
import { jwtAuthenticator } from '../../server/middleware/auth.js';
import { JwtTokenSigner } from './token-signer.js';

const USER = '6f9619ff-8b86-4d01-b42d-00cf4fc964ff';

type Jwt = Config['auth']['jwt'];

const HS256: Jwt = {
  algorithm: 'HS256',
  secret: 'a secret of thirty-two bytes or more',
  publicKey: '',
  privateKey: '',
  lifetimeMs: 3_600_000,
  issuer: 'shop',
  audience: 'kaimai',
  clockToleranceMs: 0,
};

function keys(algorithm: string): Pick<Jwt, 'algorithm' | 'secret' | 'publicKey' | 'privateKey'> {
  const { privateKey, publicKey } =
    algorithm === 'RS256' ? generateKeyPairSync('rsa', { modulusLength: 2048 }) : generateKeyPairSync('ed25519');
  const pem = (key: KeyObject, type: 'spki' | 'pkcs8') => key.export({ type, format: 'pem' }).toString();
  return { algorithm, secret: '', publicKey: pem(publicKey, 'spki'), privateKey: pem(privateKey, 'pkcs8') };
}

describe('JwtTokenSigner', () => {
  const identityOf = async (jwt: Jwt, token = '') =>
    jwtAuthenticator({ internalToken: 'a-token-for-this-test', adminToken: '', jwt })({
      metadataAll: (name: string) => (name === 'authorization' ? [`Bearer ${token}`] : []),
    } as unknown as Call);

  for (const algorithm of ['HS256', 'RS256', 'EdDSA']) {
    it(`signs ${algorithm} tokens that auth.mode jwt accepts until they end`, async () => {
      const jwt = algorithm === 'HS256' ? HS256 : { ...HS256, ...keys(algorithm) };
      const signer = new JwtTokenSigner({ mode: 'jwt', jwt });
      signer.requireKey();
      const token = await signer.sign(USER, 1n);
      assert.ok(token);
      assert.deepEqual(await identityOf(jwt, token.text), { role: 'USER', userId: USER });
      const { exp = 0, iat = 0 } = decodeJwt(token.text);
      assert.deepEqual([exp - iat, token.expiresAt.getTime()], [3_600, exp * 1_000]);
      await assert.rejects(identityOf({ ...jwt, audience: 'others' }, token.text), isUnauthenticated);
    });
  }

  it('reports a missing signing key if logins need tokens', () => {
    const jwt = { ...HS256, ...keys('RS256'), privateKey: '' };
    assert.throws(
      () => new JwtTokenSigner({ mode: 'jwt', jwt }).requireKey(),
      (err) => isSigningKeyMissing(err) && err.metadata.algorithm === 'RS256' && err.grpcCode === 12,
    );
  });

  it('issues no token if a trusted caller authenticates users and there is no key', async () => {
    const signer = new JwtTokenSigner({ mode: 'header', jwt: { ...HS256, secret: '', issuer: '', audience: '' } });
    signer.requireKey();
    assert.equal(await signer.sign(USER, 1n), undefined);
  });

  it('omits unset claims', async () => {
    const token = await new JwtTokenSigner({ mode: 'header', jwt: { ...HS256, issuer: '', audience: '' } }).sign(
      USER,
      1n,
    );
    assert.deepEqual(Object.keys(decodeJwt(token?.text ?? '')).sort(), ['exp', 'gen', 'iat', 'sub']);
  });
});
