import assert from 'node:assert/strict';
import type { InstanceJob } from '../../biz/instance/instance-log.js';
import type { GrpcClient } from '../../kratos/transport/grpc/client.js';
import { GrpcInstanceReporter } from './product-client.js';

describe('GrpcInstanceReporter', () => {
  it('throws an error that is no reply of the product domain', async () => {
    const failure = new TypeError('a bug');
    const client = { call: () => Promise.reject(failure) } as unknown as GrpcClient;
    const job = { instanceId: 7n, status: 'SUCCESS', reason: '' } as InstanceJob;
    await assert.rejects(new GrpcInstanceReporter(client).report([job]), failure);
  });
});
