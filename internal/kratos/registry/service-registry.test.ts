import assert from 'node:assert/strict';
import { formatInstance, parseInstance, type ServiceInstance, weightOf } from './service-registry.js';

describe('a registry entry', () => {
  const instance: ServiceInstance = {
    id: 'host-1',
    name: 'kaimai.product',
    version: '0.1.0',
    metadata: { weight: '50' },
    endpoints: ['grpc://10.0.0.1:9000', 'http://10.0.0.1:8000'],
  };

  it('is the JSON that Kratos writes, and is parsed back to the same instance', () => {
    assert.equal(
      formatInstance(instance),
      '{"id":"host-1","name":"kaimai.product","version":"0.1.0","metadata":{"weight":"50"},' +
        '"endpoints":["grpc://10.0.0.1:9000","http://10.0.0.1:8000"]}',
    );
    assert.deepEqual(parseInstance(formatInstance(instance)), instance);
  });

  it('is ignored if it is invalid, and read without fields of a wrong type', () => {
    for (const text of ['', 'null', '7', '[]', '{', '{"id":1,"name":"a","endpoints":[]}', '{"id":"a","name":"b"}']) {
      assert.equal(parseInstance(text), undefined, text);
    }
    const kratos = '{"id":"a","name":"b","version":"","metadata":null,"endpoints":["grpc://h:1",7]}';
    assert.deepEqual(parseInstance(kratos), {
      id: 'a',
      name: 'b',
      version: '',
      metadata: {},
      endpoints: ['grpc://h:1'],
    });
  });

  it('has weight 100 if its weight is missing or invalid', () => {
    assert.equal(weightOf(instance), 50);
    for (const weight of ['', '0', '-1', '1.5', 'x']) {
      assert.equal(weightOf({ ...instance, metadata: { weight } }), 100, weight);
    }
    assert.equal(weightOf({ ...instance, metadata: { weight: '99999999' } }), 10_000);
  });
});
