import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../internal/local/project.js';
import { useProcesses } from '../support/processes.js';
import { useServers } from '../support/servers.js';

const run = promisify(execFile);

describe('gRPC reflection', () => {
  const servers = useServers('postgres', 'redis', 'rabbitmq');
  const processes = useProcesses();

  it('lets buf curl call a method by its name alone', async () => {
    const product = await processes.start('product', { env: servers.env() });
    const curl = async (method: string, data: object, ...more: string[]) => {
      const url = `http://${product.grpc}/${method}`;
      const args = ['curl', '--protocol', 'grpc', '--http2-prior-knowledge', '-d', JSON.stringify(data), ...more, url];
      const { stdout } = await run(join(projectRoot, 'node_modules/.bin/buf'), args, { timeout: 120_000 });
      return JSON.parse(stdout) as Record<string, string>;
    };
    const admin = ['-H', 'x-user-role: ADMIN'];
    // Messages with all kinds of imports: Struct, Timestamp, field rules, the role and the HTTP annotation.
    const spec = await curl('product.v1.ProductService/CreateProductSpec', { cpu: 1, memory: 1, image: 'x' }, ...admin);
    assert.equal(spec.id, '1');
    const sales = await curl('seckill.v1.SeckillService/ListSales', {});
    assert.equal(sales.total, undefined);
    const health = await curl('grpc.health.v1.Health/Check', { service: 'product.v1.ProductService' });
    assert.equal(health.status, 'SERVING');
  });
});
