import assert from 'node:assert/strict';
import { SignJWT } from 'jose';
import { Role } from '../../../gen/auth/v1/auth.js';
import { isUnauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../../biz/identity.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import type { Call } from '../../kratos/transport/call.js';
import { headerAuthenticator, jwtAuthenticator, roleOf, secretMatcher } from './auth.js';

const USER = '00000000-0000-8000-8000-00000000007b';
const TOKEN = 'a-token-for-this-test';

function callWith(headers: Record<string, string>): Call {
  return { metadata: (name: string) => headers[name] } as Call;
}

describe('roleOf', () => {
  it('finds a role on every RPC of every proto', () => {
    const { registry } = loadDescriptors();
    const roles = new Map<string, Role>();
    for (const type of registry) {
      if (type.kind !== 'service' || type.typeName.startsWith('transcoder.test.')) continue;
      for (const method of type.methods) roles.set(`${type.typeName}/${method.name}`, roleOf(method, registry));
    }
    const without = [...roles].filter(([, role]) => role === Role.ROLE_UNSPECIFIED).map(([name]) => name);
    assert.deepEqual(without, []);
    assert.ok(roles.size > 20, `only ${roles.size} RPCs were found`);
    assert.equal(roles.get('instance.v1.InstanceService/ReportInstance'), Role.INTERNAL);
    assert.equal(roles.get('product.v1.ProductService/CreateProduct'), Role.ADMIN);
  });
});

describe('secretMatcher', () => {
  it('distinguishes a secret from everything else', () => {
    const matches = secretMatcher('s3cret');
    assert.ok(matches('s3cret'));
    for (const other of ['', 's3cre', 's3cret ', 'S3CRET']) assert.ok(!matches(other), other);
  });
});

describe('headerAuthenticator', () => {
  it('believes identity headers only with the BFF token, if one is configured', async () => {
    const open = headerAuthenticator({ internalToken: TOKEN, bffToken: '' });
    assert.deepEqual(await open(callWith({ 'x-user-id': '123' })), { role: 'USER', userId: USER });
    const closed = headerAuthenticator({ internalToken: TOKEN, bffToken: 'the-token-of-the-bff' });
    const admin = { 'x-user-role': 'ADMIN' };
    for (const headers of [{ 'x-user-id': '123' }, admin, { ...admin, 'x-bff-token': 'the-token-of-the-bfg' }]) {
      await assert.rejects(async () => closed(callWith(headers)), isUnauthenticated);
    }
    assert.equal((await closed(callWith({ ...admin, 'x-bff-token': 'the-token-of-the-bff' }))).role, 'ADMIN');
    assert.equal((await closed(callWith({}))).role, 'ANONYMOUS');
  });
});

describe('jwtAuthenticator', () => {
  const secret = 'a secret of thirty-two bytes or more';
  const authenticate = jwtAuthenticator({
    internalToken: TOKEN,
    jwt: { algorithm: 'HS256', secret, publicKey: '', issuer: 'shop', audience: 'kaimai', clockToleranceMs: 5_000 },
  });
  const identityOf = async (headers: Record<string, string>): Promise<Identity> => authenticate(callWith(headers));
  const bearer = async (claims: Record<string, unknown>) => {
    const exp = Math.floor(Date.now() / 1000) + 600;
    const token = new SignJWT({ sub: '123', iss: 'shop', aud: 'kaimai', exp, ...claims });
    const signed = await token.setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
    return { authorization: `Bearer ${signed}` };
  };

  it('takes the user and the role from the claims only', async () => {
    const user = await bearer({});
    assert.deepEqual(await identityOf(user), { role: 'USER', userId: USER });
    assert.deepEqual(await identityOf({ ...user, 'x-user-id': '9', 'x-user-role': 'ADMIN' }), {
      role: 'USER',
      userId: USER,
    });
    assert.equal((await identityOf({ 'x-user-id': '9' })).role, 'ANONYMOUS');
    const admin = await bearer({ role: 'ADMIN' });
    assert.deepEqual(await identityOf(admin), { role: 'ADMIN', userId: USER });
    assert.match((await identityOf({ ...admin, 'x-user-id': '9' })).userId ?? '', /0009$/);
    assert.equal((await identityOf({ 'x-internal-token': TOKEN })).role, 'INTERNAL');
  });

  it('rejects a subject that is not a user, an invalid token and another scheme', async () => {
    await assert.rejects(identityOf(await bearer({ sub: 'ann' })), isUnauthenticated);
    await assert.rejects(identityOf(await bearer({ aud: 'others' })), isUnauthenticated);
    await assert.rejects(identityOf({ authorization: 'Basic YTpi' }), isUnauthenticated);
  });
});
