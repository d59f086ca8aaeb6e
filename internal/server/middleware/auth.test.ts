import assert from 'node:assert/strict';
import { SignJWT } from 'jose';
import { Role } from '../../../gen/auth/v1/auth.js';
import { isInvalidArgument, isUnauthenticated } from '../../../gen/common/v1/errors.js';
import type { Identity } from '../../biz/identity.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import type { Call } from '../../kratos/transport/call.js';
import { headerAuthenticator, jwtAuthenticator, roleOf, secretMatcher } from './auth.js';

const USER = '00000000-0000-8000-8000-00000000007b';
const TOKEN = 'a-token-for-this-test';

function callWith(headers: Record<string, string | string[]>): Call {
  return { metadataAll: (name: string) => [headers[name] ?? []].flat() } as unknown as Call;
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
    const development = { internalToken: TOKEN, adminToken: '', bffToken: '', adminByRole: true };
    const open = headerAuthenticator(development);
    assert.deepEqual(await open(callWith({ 'x-user-id': '123' })), { role: 'USER', userId: USER });
    const closed = headerAuthenticator({ ...development, bffToken: 'the-token-of-the-bff' });
    const admin = { 'x-user-role': 'ADMIN' };
    for (const headers of [{ 'x-user-id': '123' }, admin, { ...admin, 'x-bff-token': 'the-token-of-the-bfg' }]) {
      await assert.rejects(async () => closed(callWith(headers)), isUnauthenticated);
    }
    assert.equal((await closed(callWith({ ...admin, 'x-bff-token': 'the-token-of-the-bff' }))).role, 'ADMIN');
    assert.equal((await closed(callWith({}))).role, 'ANONYMOUS');
  });
});

describe('The token of operators', () => {
  const ADMIN_TOKEN = 'the-token-of-operators';
  const tokens = { internalToken: TOKEN, adminToken: ADMIN_TOKEN, bffToken: '' };
  const authenticate = headerAuthenticator({ ...tokens, adminByRole: true });
  const identityOf = async (headers: Record<string, string | string[]>) => authenticate(callWith(headers));

  it('makes an operator, who may act for a user', async () => {
    assert.deepEqual(await identityOf({ 'x-admin-token': ADMIN_TOKEN }), { role: 'ADMIN', userId: undefined });
    const acting = { 'x-admin-token': ADMIN_TOKEN, 'x-user-role': 'ADMIN', 'x-user-id': '123' };
    assert.deepEqual(await identityOf(acting), { role: 'ADMIN', userId: USER });
    const jwt = { algorithm: 'HS256', secret: 's'.repeat(32), publicKey: '', issuer: 'i', audience: 'a' };
    const byJwt = jwtAuthenticator({ ...tokens, jwt: { ...jwt, clockToleranceMs: 0 } });
    assert.equal((await byJwt(callWith({ 'x-admin-token': ADMIN_TOKEN }))).role, 'ADMIN');
  });

  it('is required for the role ADMIN where it is configured, and in production', async () => {
    const production = headerAuthenticator({
      ...tokens,
      adminToken: '',
      bffToken: 'the-token-of-the-bff',
      adminByRole: false,
    });
    const byRole = { 'x-user-role': 'ADMIN', 'x-bff-token': 'the-token-of-the-bff' };
    await assert.rejects(identityOf(byRole), isUnauthenticated);
    await assert.rejects(async () => production(callWith(byRole)), isUnauthenticated);
    for (const token of [ADMIN_TOKEN, '']) {
      await assert.rejects(async () => production(callWith({ ...byRole, 'x-admin-token': token })), isUnauthenticated);
    }
    await assert.rejects(identityOf({ ...byRole, 'x-admin-token': 'the-token-of-operatorz' }), isUnauthenticated);
  });

  it('is refused together with another identity', async () => {
    const admin = { 'x-admin-token': ADMIN_TOKEN };
    await assert.rejects(identityOf({ ...admin, 'x-user-role': 'USER' }), isInvalidArgument);
    await assert.rejects(identityOf({ ...admin, 'x-internal-token': TOKEN }), isInvalidArgument);
  });

  it('and every other identity header is refused if it is repeated, even with equal values', async () => {
    for (const [name, values] of Object.entries({
      'x-user-id': ['123', '124'],
      'x-user-role': ['', 'ADMIN'],
      'x-internal-token': [TOKEN, TOKEN],
      'x-admin-token': [ADMIN_TOKEN, 'guess'],
    })) {
      await assert.rejects(identityOf({ [name]: values }), (err) => {
        return isInvalidArgument(err) && err.violations[0]?.field === name;
      });
    }
    const closed = headerAuthenticator({ ...tokens, bffToken: 'the-token-of-the-bff', adminByRole: false });
    const twice = { 'x-user-id': '123', 'x-bff-token': ['the-token-of-the-bff', 'guess'] };
    await assert.rejects(async () => closed(callWith(twice)), isInvalidArgument);
  });
});

describe('jwtAuthenticator', () => {
  const secret = 'a secret of thirty-two bytes or more';
  const authenticate = jwtAuthenticator({
    internalToken: TOKEN,
    adminToken: '',
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
