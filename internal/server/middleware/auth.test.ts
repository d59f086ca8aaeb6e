import assert from 'node:assert/strict';
import { Role } from '../../../gen/auth/v1/auth.js';
import { loadDescriptors } from '../../conf/descriptors.js';
import { roleOf, secretMatcher } from './auth.js';

describe('auth', () => {
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

  it('tells a secret from everything else', () => {
    const matches = secretMatcher('s3cret');
    assert.ok(matches('s3cret'));
    for (const other of ['', 's3cre', 's3cret ', 'S3CRET']) assert.ok(!matches(other), other);
  });
});
